"""Hand-written rules: a TOML file a risk officer can read and change, compiled into a model file.

    name = "House rules"
    review = 40            # points from which a transaction is reviewed
    decline = 100          # points from which it is declined

    [limits]               # optional names for numbers
    big = 22000

    [[rule]]
    code = "AMOUNT"        # 1 to 16 letters, digits or underscores; travels in the verdict
    text = "Amount above 220.00"
    when = "L_amt > big and not F_runf >= 2"
    points = 60            # added to the score when the rule applies

    [[rule]]
    code = "BLOCKED"
    text = "Card is on the block list"
    when = "blocked == 1"
    verdict = "decline"    # or "review", "approve": hard rule, decides at once; the first that applies counts

A condition compares features with whole numbers: < <= > >= == != joined by and, or, not and parentheses; 10 <= x < 20
works too. Hard rules may also ask for the facts amount (whole currency units), hour (0..23, UTC), weekday (0 = Monday)
and blocked (1 if the card is on the block list). Points need review and decline; a file with hard rules only is an
overlay for a trained model.
"""

import ast
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentill.risk import features
from sentill.risk.model_file import FACTS
from sentill_host import user_files
from sentill_host.errors import SentillHostError
from sentill_host.models import model_file
from sentill_host.models.model_file import BY_RULE, RULES, Tree
from sentill_host.models.quantize import HIGH, LOW, Forest, Overlay, PackedModel, overlay_sections, pack_model, simplify

VERDICTS = {"approve": 1, "review": 2, "decline": 3}
_RULE_KEYS = ("code", "text", "when", "points", "verdict")
_FILE_KEYS = ("name", "review", "decline", "limits", "rule")
MAX_POINTS = 30_000


class RulesError(SentillHostError):
    """The rules cannot be compiled; the message names the rule and what to change."""

    exit_code = 2


@dataclass(frozen=True)
class Rule:
    """One rule of the source; exactly one of `points` and `verdict` is set."""

    code: str
    text: str
    when: str
    points: int | None
    verdict: str | None
    tree: Tree


@dataclass(frozen=True)
class RuleSet:
    """A compiled source."""

    name: str
    review: int | None
    decline: int | None
    rules: tuple[Rule, ...]
    feature_names: tuple[str, ...]

    @property
    def points(self) -> list[Rule]:
        """Rules that add points."""
        return [rule for rule in self.rules if rule.points is not None]

    @property
    def overlay(self) -> Overlay:
        """Hard rules, to be evaluated before a forest."""
        hard = [rule for rule in self.rules if rule.verdict is not None]
        return Overlay([rule.tree for rule in hard], [(rule.code, rule.text) for rule in hard])


def _closest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise RulesError(f"{where}: unknown key {key!r}{_closest(key, known)}", f"known keys: {', '.join(known)}")


def _integer(table: Mapping[str, Any], key: str, where: str, limit: int) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if type(value) is not int or abs(value) > limit:
        raise RulesError(f"{where}: {key} must be a whole number from -{limit} to {limit}, not {value!r}")
    return value


def _string(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RulesError(f"{where}: {key} is missing or no text")
    return value


class _Condition:
    """Compiles one condition; `inputs` gives the index of each name it may use."""

    def __init__(self, where: str, inputs: Mapping[str, int], limits: Mapping[str, int], hard_only: Sequence[str]):
        self.where = where
        self.inputs = inputs
        self.limits = limits
        self.hard_only = hard_only

    def compile(self, text: str, yes: int) -> Tree:
        """Tree with the leaf `yes` where the condition holds and 0 elsewhere."""
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            column = text.strip()[max(0, (error.offset or 1) - 1) :]
            hint = "compare with ==, not =" if "=" in column and "==" not in column else ""
            raise RulesError(f"{self.where}: cannot read the condition at {column!r}", hint) from error
        tree = simplify(self.branch(node, yes, 0))
        if isinstance(tree, int):
            raise RulesError(f"{self.where}: the condition {text!r} is {'always' if tree else 'never'} true")
        return tree

    def branch(self, node: ast.expr, yes: Tree, no: Tree) -> Tree:
        """Tree that ends in `yes` or `no`."""
        match node:
            case ast.BoolOp(op=ast.And()):
                for value in reversed(node.values):
                    yes = self.branch(value, yes, no)
                return yes
            case ast.BoolOp():
                for value in reversed(node.values):
                    no = self.branch(value, yes, no)
                return no
            case ast.UnaryOp(op=ast.Not()):
                return self.branch(node.operand, no, yes)
            case ast.Compare():
                sides = [node.left, *node.comparators]
                for left, op, right in reversed(list(zip(sides, node.ops, sides[1:], strict=False))):
                    yes = self.comparison(left, op, right, yes, no)
                return yes
        raise RulesError(f"{self.where}: {ast.unparse(node)!r} is no comparison", "write for example L_amt > 22000")

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, yes: Tree, no: Tree) -> Tree:
        """Tree of one comparison of an input with a number, either way round."""
        turned = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
        kind = type(op)
        if self.number(left) is not None:
            left, right, kind = right, left, turned.get(kind, kind)
        value = self.number(right)
        if value is None or not isinstance(left, ast.Name):
            raise RulesError(f"{self.where}: compare one feature with one whole number, not {ast.unparse(right)!r}")
        at = self.input(left.id)
        if not LOW <= value <= HIGH:
            also = "; amounts above 327.67 can be had in whole units: amount" if left.id == "L_amt" else ""
            raise RulesError(f"{self.where}: {left.id} holds {LOW} to {HIGH}, so {value} says nothing{also}")
        if kind in (ast.Lt, ast.LtE):
            return at, value + (kind is ast.LtE), yes, no
        if kind in (ast.Gt, ast.GtE):
            return at, value + (kind is ast.Gt), no, yes
        if kind is ast.Eq:
            return at, value, no, (at, value + 1, yes, no)
        if kind is ast.NotEq:
            return at, value, yes, (at, value + 1, no, yes)
        raise RulesError(f"{self.where}: use < <= > >= == !=")

    def number(self, node: ast.expr) -> int | None:
        """Value of a whole number or of a name from [limits], else None."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self.number(node.operand)
            return None if value is None else -value
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        return self.limits.get(node.id) if isinstance(node, ast.Name) else None

    def input(self, name: str) -> int:
        """Index of an input."""
        if name in self.inputs:
            return self.inputs[name]
        if name in self.hard_only:
            raise RulesError(f"{self.where}: {name} is for rules with a verdict; rules with points ask for features")
        known = [*self.inputs, *self.limits]
        raise RulesError(f"{self.where}: unknown name {name}{_closest(name, known)}", f"known: {', '.join(known)}")


def parse(text: str, feature_names: Sequence[str] = features.NAMES) -> RuleSet:
    """Compile a source. RulesError names the rule at fault."""
    try:
        source = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"the rules are no valid TOML: {error}") from error
    _keys(source, _FILE_KEYS, "the file")
    limits = source.get("limits", {})
    if not isinstance(limits, dict):
        raise RulesError("[limits] must be a table of names and numbers")
    for name in limits:
        if name in feature_names or name in FACTS:
            raise RulesError(f"[limits]: {name} is already the name of an input")
        _integer(limits, name, "[limits]", 2**30 - 1)
    entries = source.get("rule")
    if not isinstance(entries, list) or not entries:
        raise RulesError("the file has no [[rule]]")
    rules: list[Rule] = []
    for number, entry in enumerate(entries, 1):
        where = f"rule {number}"
        _keys(entry, _RULE_KEYS, where)
        code = _string(entry, "code", where)
        rule = _rule(entry, code, f"rule {number} ({code})", limits, feature_names)
        if any(rule.code == other.code for other in rules):
            raise RulesError(f"rule {number}: code {code} is taken by an earlier rule")
        rules.append(rule)
    review = _integer(source, "review", "the file", 2**30 - 1)
    decline = _integer(source, "decline", "the file", 2**30 - 1)
    if any(rule.points is not None for rule in rules):
        if review is None or decline is None:
            raise RulesError("rules with points need review and decline at the top of the file")
        if review > decline:
            raise RulesError(f"review ({review}) is above decline ({decline})")
    return RuleSet(str(source.get("name", "")), review, decline, tuple(rules), tuple(feature_names))


def read(path: Path, feature_names: Sequence[str] = features.NAMES) -> RuleSet:
    """Compile a file. Raises UsageError if it cannot be read, RulesError naming the rule at fault."""
    return parse(user_files.read_text(path), feature_names)


def _rule(entry: Mapping[str, Any], code: str, where: str, limits: Mapping[str, int], names: Sequence[str]) -> Rule:
    text = _string(entry, "text", where)
    try:
        model_file.reason_table([(code, text)])
    except model_file.ModelFileError as error:
        raise RulesError(f"{where}: {error}") from error
    when = _string(entry, "when", where)
    points = _integer(entry, "points", where, MAX_POINTS)
    verdict = entry.get("verdict")
    if (points is None) == (verdict is None):
        raise RulesError(f"{where}: give either points or a verdict")
    if points == 0:
        raise RulesError(f"{where}: points are 0, so the rule does nothing")
    if verdict is not None and verdict not in VERDICTS:
        raise RulesError(f"{where}: verdict must be one of {', '.join(VERDICTS)}, not {verdict!r}")
    inputs = {name: i for i, name in enumerate((*names, *(FACTS if verdict else ())))}
    tree = _Condition(where, inputs, limits, FACTS).compile(when, points or VERDICTS[str(verdict)])
    return Rule(code, text, when, points, verdict, tree)


def pack(rules: RuleSet, schema_id: int | None = None, notes: Mapping[str, Any] | None = None) -> PackedModel:
    """A model file of rules alone: points are summed by the forest, hard rules come before."""
    if rules.review is None or rules.decline is None or not rules.points:
        raise RulesError("hard rules alone are no model", "add them to a trained one, or add rules with points")
    return pack_model(
        Forest([rule.tree for rule in rules.points]),
        review=rules.review,
        decline=rules.decline,
        feature_names=rules.feature_names,
        schema_id=schema_id,
        tree_reasons=[(rule.code, rule.text) for rule in rules.points],
        layout="wide",
        overlay=rules.overlay,
        notes={"name": rules.name, "conditions": {rule.code: rule.when for rule in rules.rules}, **(notes or {})},
    )


def with_overlay(data: bytes, overlay: Overlay) -> bytes:
    """The model file `data` with `overlay` in place of its hard rules; a signature is dropped, for it is void."""
    contents = model_file.read(data)
    sections = model_file.sections_of(data)
    sections.pop(RULES, None)
    sections.pop(BY_RULE, None)
    model = contents.model
    changed = model_file.assemble(
        schema_id=model.schema_id,
        review=model.review,
        decline=model.decline,
        features=model.n_features,
        sections=sections | overlay_sections(overlay, model.n_features),
    )
    model_file.read(changed)
    return changed
