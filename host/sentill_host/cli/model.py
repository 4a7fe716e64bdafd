"""`sentill model`: look into a model file, ask it about a transaction, compile hand-written rules."""

import difflib
import json as jsonlib
import tomllib
from array import array
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.tree import Tree as Picture

from sentill.risk.model_file import FACTS
from sentill_host import user_files
from sentill_host.cli.output import out, print_json, print_table
from sentill_host.errors import UsageError
from sentill_host.models import model_file, quantize, rules, score_time
from sentill_host.models.model_file import ModelContents, Tree

app = typer.Typer(no_args_is_help=True, help="Look into model files, ask them for reasons, compile rules.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="Model file (.stm).")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
_ACTIONS = {1: "approve", 2: "review", 3: "decline"}


def _read(file: Path) -> ModelContents:
    return model_file.read(user_files.read_bytes(file))


def _inputs(model: ModelContents) -> tuple[str, ...]:
    """Names of all inputs: features, then the facts that hard rules may ask for."""
    return (*model.feature_names, *FACTS)


def _summary(model: ModelContents, size: int) -> dict[str, Any]:
    forest, device = model.forest, model.model
    steps = sum(quantize.steps(tree) for tree in forest.trees)
    return {
        "model_id": device.model_id,
        "sha256": device.digest.hex(),
        "signed": bool(device.signature),
        "name": str(model.notes.get("name", "")),
        "schema": f"{device.schema_id:08x}",
        "features": list(model.feature_names),
        "review": device.review,
        "decline": device.decline,
        "kind": "vote" if forest.vote else "sum",
        "outputs": forest.outputs,
        "layout": forest.layout_name,
        "trees": len(forest.trees),
        "leaves": sum(model_file.count_leaves(tree) for tree in forest.trees),
        "max_depth": max(model_file.depth(tree) for tree in forest.trees),
        "mean_steps": round(steps, 1),
        "file_bytes": size,
        "forest_bytes": forest.size,
        "rules_bytes": model.rules.size if model.rules else 0,
        "ram_bytes": size + 4 * (2 * device.n_trees + (3 * device.n_features if device.typical else 0)),
        "reasons": {code: device.text(i) for i, code in enumerate(device.reasons)},
        "rules": {code: device.text(i, rule=True) for i, code in enumerate(device.rules)},
        "estimated_us": {
            board: round(score_time.estimate_us(board, len(forest.trees), steps), 1) for board in score_time.BOARDS
        },
        "notes": {key: value for key, value in model.notes.items() if key not in ("features", "name")},
    }


def _draw(tree: Tree, names: tuple[str, ...], leaf: dict[int, str], picture: Picture, answer: str, left: int) -> int:
    """Add a tree to a picture, at most `left` lines; return how many are left."""
    if left <= 0:
        return 0
    if not isinstance(tree, tuple):
        picture.add(f"{answer}{leaf.get(tree, str(tree))}")
        return left - 1
    feature, threshold, below, above = tree
    branch = picture.add(f"{answer}{names[feature]} < {threshold} ?")
    left = _draw(below, names, leaf, branch, "yes: ", left - 1)
    return _draw(above, names, leaf, branch, "no: ", left)


def _show_trees(model: ModelContents, lines: int, only: int | None) -> None:
    """Pictures of the hard rules and of the forest's trees, `lines` lines in all."""
    sources = []
    if model.rules and only is None:
        sources += [
            (f"hard rule {code}", tree, {0: "does not apply", **_ACTIONS})
            for code, tree in zip(model.model.rules, model.rules.trees, strict=True)
        ]
    by_tree = model.model.typical is None
    for i, tree in enumerate(model.forest.trees):
        if only in (None, i):
            name = f"tree {i}" + (f" {model.model.reasons[i]}" if by_tree else "")
            leaf = {c: f"votes for class {c}" for c in range(model.forest.outputs)} if model.forest.vote else {}
            sources.append((name, tree, leaf))
    for number, (name, tree, leaf) in enumerate(sources):
        if lines <= 0:
            out.print(f"{len(sources) - number} more: ask for them with --tree N or --lines")
            return
        picture = Picture(name)
        lines = _draw(tree, _inputs(model), leaf, picture, "", lines)
        out.print(picture)


@app.command()
def inspect(
    file: File,
    tree: Annotated[int | None, typer.Option(help="Draw only this tree.")] = None,
    lines: Annotated[int, typer.Option(help="Draw at most so many lines of trees; 0 draws none.")] = 60,
    json: AsJson = False,
) -> None:
    """Show what a model file holds: thresholds, reasons, sizes, estimated time per board, and its trees."""
    model = _read(file)
    summary = _summary(model, file.stat().st_size)
    if json:
        print_json(summary)
        return
    if tree is not None and not 0 <= tree < len(model.forest.trees):
        raise UsageError(f"tree {tree}: there are {len(model.forest.trees)}, from 0")
    table = Table(show_header=False, box=None)
    for key, value in summary.items():
        if key not in ("reasons", "rules", "features", "notes", "estimated_us"):
            table.add_row(key.replace("_", " "), str(value))
    for board, us in summary["estimated_us"].items():
        table.add_row(f"time on {board}", f"about {us} µs")
    for key, value in summary["notes"].items():
        if not isinstance(value, dict | list):
            table.add_row(key, str(value))
    print_table(table)
    listed = Table("reason", "text", box=None)
    conditions = summary["notes"].get("conditions", {})
    if conditions:
        listed.add_column("applies when")
    for code, text in (summary["rules"] | summary["reasons"]).items():
        listed.add_row(code, text, *([str(conditions.get(code, ""))] if conditions else []))
    print_table(listed)
    _show_trees(model, lines, tree)


def _transaction(texts: list[str], names: tuple[str, ...]) -> dict[str, int]:
    """Values by input name from `NAME=VALUE` arguments, JSON objects, or files of either JSON or TOML."""
    values: dict[str, Any] = {}
    for text in texts:
        if text.startswith("{"):
            try:
                values |= jsonlib.loads(text)
            except ValueError as error:
                raise UsageError(f"--tx {text!r} is no JSON object") from error
        elif "=" in text:
            name, _, value = text.partition("=")
            values[name.strip()] = value
        else:
            try:
                content = Path(text).read_text()
                values |= tomllib.loads(content) if text.endswith(".toml") else jsonlib.loads(content)
            except (OSError, ValueError, TypeError) as error:
                raise UsageError(f"--tx {text!r}: give NAME=VALUE, a JSON object, or a file of one") from error
    row = {}
    for name, value in values.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"the model has no input {name!r}{meant}", f"inputs: {', '.join(names)}")
        try:
            row[name] = int(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name} must be a whole number, not {value!r}") from error
        if not quantize.LOW <= row[name] <= quantize.HIGH:
            raise UsageError(f"{name} must lie in {quantize.LOW}..{quantize.HIGH}")
    return row


def _explain(model: ModelContents, row: dict[str, int]) -> dict[str, Any]:
    """Verdict, score and reasons as the board gives them, and the way through every tree."""
    device, names = model.model, _inputs(model)
    x = array("h", [row.get(name, 0) for name in names])
    score = device.score(x)
    verdict = "decline" if score >= device.decline else "review" if score >= device.review else "approve"
    rule = device.rule(x)
    if rule >= 0:
        verdict = _ACTIONS[device.action + 1]
    device.explain(x)
    reasons = []
    weights = [device.weight(i) for i in range(len(device.reasons))]
    while (i := device.next_reason()) >= 0:
        reasons.append({"code": device.reasons[i], "text": device.text(i), "weight": weights[i]})
    ways = []
    for tree in model.forest.trees:
        way = []
        while isinstance(tree, tuple):
            feature, threshold, below, above = tree
            less = x[feature] < threshold
            way.append(f"{names[feature]} = {x[feature]} {'<' if less else '>='} {threshold}")
            tree = below if less else above
        ways.append({"asked": way, "leaf": tree})
    votes = [0] * device.n_outputs
    device.votes(x, votes)
    return {
        "model_id": device.model_id,
        "verdict": verdict,
        "score": score,
        "review": device.review,
        "decline": device.decline,
        "rule": device.rules[rule] if rule >= 0 else None,
        "rule_text": device.text(rule, rule=True) if rule >= 0 else None,
        "outputs": votes,
        "reasons": reasons,
        "trees": ways,
    }


@app.command()
def explain(
    file: File,
    tx: Annotated[list[str], typer.Option(help="Inputs: NAME=VALUE (repeatable), a JSON object, or a file of one.")],
    ways: Annotated[int, typer.Option(help="Show the way through so many trees, those with the largest leaves.")] = 3,
    json: AsJson = False,
) -> None:
    """Score one transaction with the device's own code and say why. Inputs that are not given are 0."""
    model = _read(file)
    result = _explain(model, _transaction(tx, _inputs(model)))
    if json:
        print_json(result)
        return
    colour = {"approve": "green", "review": "yellow", "decline": "red"}[result["verdict"]]
    out.print(f"[bold {colour}]{result['verdict']}[/] (model {result['model_id']})")
    out.print(f"score {result['score']}, review from {result['review']}, decline from {result['decline']}")
    if result["rule"]:
        out.print(f"hard rule {result['rule']}: {result['rule_text']}")
    table = Table("reason", "weight", "text", box=None)
    for reason in result["reasons"]:
        table.add_row(reason["code"], f"{reason['weight']:+}", reason["text"])
    print_table(table) if result["reasons"] else out.print("nothing raised the score")
    largest = sorted(enumerate(result["trees"]), key=lambda item: -abs(item[1]["leaf"]))[:ways]
    for i, way in largest:
        picture = Picture(f"tree {i}: leaf {way['leaf']}")
        for step in way["asked"]:
            picture.add(step)
        out.print(picture)


@app.command("rules")
def compile_rules(
    source: Annotated[
        Path, typer.Argument(metavar="RULES", help="Rules (.toml), like the device's models/rules.toml.")
    ],
    output: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")],
    onto: Annotated[Path | None, typer.Option(help="Put the hard rules before this trained model.")] = None,
) -> None:
    """Compile hand-written rules into a model file, or put their hard rules before a trained model."""
    data: bytes
    if onto is None:
        data = rules.pack(rules.read(source))
    else:
        model = _read(onto)
        parsed = rules.read(source, model.feature_names)
        if parsed.points:
            raise UsageError(f"rules with points ({parsed.points[0].code}) cannot go before a trained model")
        data = rules.with_overlay(onto.read_bytes(), parsed.overlay)
    user_files.save(output, data)
    out.print(f"{output}: {len(data)} bytes, model {model_file.read(data).model.model_id}")
