"""Hand-written rules: the language, its errors, the shipped fallback model, hard rules before a trained one."""

import itertools
import json
from array import array
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentill.risk.features import NAMES
from sentill.risk.model import Model
from sentill.risk.model_file import FACTS
from sentill_host.cli import model as command
from sentill_host.errors import SentillHostError
from sentill_host.models import model_file, quantize, rules
from sentill_host.models.model_file import evaluate
from tools.device_modules import DEVICE

SHIPPED = DEVICE / "models" / "rules.toml"
HEAD = "review = 10\ndecline = 20\n"


def source(when: str = "L_amt > 5", extra: str = "points = 7", head: str = HEAD, code: str = "A") -> str:
    return f'{head}[[rule]]\ncode = "{code}"\ntext = "a text"\nwhen = "{when}"\n{extra}\n'


def compiled(when: str) -> model_file.Tree:
    return rules.parse(source(when, 'verdict = "review"', "")).rules[0].tree


@pytest.mark.parametrize(
    ("when", "python"),
    [
        ("L_amt > 5", "a > 5"),
        ("L_amt >= 5", "a >= 5"),
        ("L_amt < 5", "a < 5"),
        ("L_amt <= 5", "a <= 5"),
        ("L_amt == 5", "a == 5"),
        ("L_amt != 5", "a != 5"),
        ("5 < L_amt", "a > 5"),
        ("-1 <= L_amt < 6", "-1 <= a < 6"),
        ("not L_amt > 5", "a <= 5"),
        ("L_amt > 5 and F_runf > 5", "a > 5 and b > 5"),
        ("L_amt > 5 or F_runf > 5", "a > 5 or b > 5"),
        ("not (L_amt > 5 or F_runf != 5) or L_amt == 0", "not (a > 5 or b != 5) or a == 0"),
        ("(L_amt < 1 or F_runf < 1) and (L_amt > 4 or F_runf > 4)", "(a < 1 or b < 1) and (a > 4 or b > 4)"),
    ],
)
def test_a_condition_means_what_python_means(when, python):
    tree = compiled(when)
    for a, b in itertools.product(range(-2, 9), repeat=2):
        row = [a, b, *[0] * 14]
        assert (evaluate(tree, row) != 0) == eval(python, {"a": a, "b": b}), (when, a, b)


def test_named_numbers_and_facts():
    head = HEAD + "[limits]\nbig = 300\n"
    assert rules.parse(source("L_amt > big", head=head)).rules[0].tree == (0, 301, 0, 7)
    assert compiled("blocked == 1 and hour < 6")[0] == len(NAMES) + FACTS.index("blocked")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "no valid TOML"),
        (HEAD, r"no \[\[rule\]\]"),
        ("revue = 1\n" + source(), "unknown key 'revue'; did you mean review"),
        (source(extra="point = 7"), "unknown key 'point'; did you mean points"),
        (source(extra=""), r"rule 1 \(A\): give either points or a verdict"),
        (source(extra='points = 7\nverdict = "review"'), "either points or a verdict"),
        (source(extra='verdict = "refuse"'), "approve, review, decline, not 'refuse'"),
        (source(extra="points = 0"), "does nothing"),
        (source(extra="points = 40000"), "whole number"),
        (source(extra="points = 1.5"), "whole number"),
        (source(head=""), "need review and decline"),
        (source(head="review = 30\ndecline = 20\n"), "above decline"),
        (source() + source(head=""), "rule 2: code A is taken"),
        (source(code="A B"), "letters, digits"),
        (source("L_amnt > 5"), "unknown name L_amnt; did you mean L_amt"),
        (source("L_amt = 5"), "cannot read the condition"),
        (source("L_amt >"), "cannot read the condition"),
        (source("L_amt"), "no comparison"),
        (source("L_amt + 1 > 5"), "one feature with one whole number"),
        (source("L_amt > F_runf"), "one feature with one whole number"),
        (source("L_amt > 0.5"), "one feature with one whole number"),
        (source("L_amt in 5"), "use < <= > >= == !="),
        (source("L_amt > 50000"), "says nothing; amounts above 327.67"),
        (source("L_amt > 5 and L_amt < 3"), "never true"),
        (source("L_amt > 5 or L_amt < 7"), "always true"),
        (source("hour < 6"), "hour is for rules with a verdict"),
        (source("__import__('os') == 1"), "one feature with one whole number"),
        (source(head=HEAD + "[limits]\nL_amt = 3\n"), "already the name"),
        (source().replace("a text", " "), "text is missing"),
    ],
)
def test_mistakes_are_explained(text, message):
    with pytest.raises(rules.RulesError, match=message):
        rules.parse(text)


def test_the_shipped_model_is_its_source_compiled():
    assert SHIPPED.with_suffix(".stm").read_bytes() == rules.pack(rules.parse(SHIPPED.read_text())), (
        "run `sentill model rules device/models/rules.toml -o device/models/rules.stm`"
    )


def test_points_are_summed_and_name_their_rules():
    text = source("L_amt > 5", "points = 7") + source("F_runf >= 2", "points = 9", "", "B")
    text += source("F_rung >= 1", "points = -4", "", "C") + source("blocked == 1", 'verdict = "decline"', "", "X")
    model = Model.from_bytes(rules.pack(rules.parse(text)))
    assert (model.reasons, model.rules, model.review, model.decline) == (("A", "B", "C"), ("X",), 10, 20)
    x = array("h", [6, 2, 1, *[0] * 13])
    assert (model.score(x), model.rule(x)) == (12, -1)
    model.explain(x)
    assert [model.next_reason() for _ in range(3)] == [1, 0, -1]
    x[15] = 1
    assert (model.rule(x), model.action) == (0, 2)


def test_the_first_hard_rule_counts():
    text = source("amount <= 1", 'verdict = "approve"', "", "SMALL")
    text += source("blocked == 1", 'verdict = "decline"', "", "X")
    text += source("hour < 6", 'verdict = "review"', "", "NIGHT")
    trained = quantize.pack_model([(0, 100, -50, 50)], review=0, decline=40)
    model = Model.from_bytes(rules.with_overlay(trained, rules.parse(text).overlay))
    x = array("h", [0] * 16)
    for amount, blocked, hour, expected in ((0, 1, 3, 0), (9, 1, 3, 1), (9, 0, 3, 2), (9, 0, 9, -1)):
        x[12], x[15], x[13] = amount, blocked, hour
        rule = model.rule(x)
        assert rule == expected
        assert model.action == {0: 0, 1: 2, 2: 1, -1: -1}[rule]
    assert model.score(x) == -50
    replaced = Model.from_bytes(rules.with_overlay(trained, quantize.Overlay([], [])))
    assert (replaced.rules, replaced.model_id) == ((), Model.from_bytes(trained).model_id)


def test_hard_rules_alone_are_no_model():
    with pytest.raises(rules.RulesError, match="no model"):
        rules.pack(rules.parse(source("blocked == 1", 'verdict = "decline"', "")))


# --- the commands ---


def invoke(*arguments: object):
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def test_rules_inspect_and_explain(tmp_path: Path):
    output = tmp_path / "out.stm"
    done = invoke("rules", SHIPPED, "-o", output)
    assert (done.exit_code, output.read_bytes()) == (0, SHIPPED.with_suffix(".stm").read_bytes()), done.output
    text = invoke("inspect", output).output
    for part in ("L_amt < 22001 ?", "hard rule BLOCKED", "RP2040", "TERM_RUN", "hand-written", "model id"):
        assert part.lower() in text.lower(), (part, text)
    summary = json.loads(invoke("inspect", output, "--json").output)
    assert summary["trees"] == len(summary["reasons"]) > 3
    assert summary["file_bytes"] == output.stat().st_size
    given = json.dumps({"F_runf": 5})
    result = json.loads(invoke("explain", output, "--tx", "L_amt=30000", "--tx", given, "--json").output)
    assert (result["verdict"], result["reasons"][0]["code"]) == ("decline", "AMOUNT")
    assert result["trees"][0] == {"asked": ["L_amt = 30000 >= 22001"], "leaf": 150}
    assert "AMOUNT" in invoke("explain", output, "--tx", "L_amt=30000").output
    result = json.loads(invoke("explain", output, "--tx", "blocked=1", "--json").output)
    assert (result["verdict"], result["rule"], result["score"]) == ("decline", "BLOCKED", 0)


def test_hard_rules_go_onto_a_trained_model(tmp_path: Path):
    trained, output, hard = tmp_path / "trained.stm", tmp_path / "out.stm", tmp_path / "hard.toml"
    trained.write_bytes(quantize.pack_model([(0, 100, -50, 50)], review=0, decline=40))
    hard.write_text(source("blocked == 1", 'verdict = "decline"', ""))
    assert invoke("rules", hard, "-o", output, "--onto", trained).exit_code == 0
    assert Model.load(str(output)).rules == ("A",)
    with pytest.raises(SentillHostError, match="with points"):
        command.compile_rules(SHIPPED, output, trained)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "/nonexistent/x.stm"], "cannot read"),
        (["inspect", SHIPPED], "not a usable model"),
        (["inspect", SHIPPED.with_suffix(".stm"), "--tree", "99"], "tree 99"),
        (["explain", SHIPPED.with_suffix(".stm"), "--tx", "L_amtt=3"], "did you mean L_amt"),
        (["explain", SHIPPED.with_suffix(".stm"), "--tx", "L_amt=x"], "whole number"),
        (["explain", SHIPPED.with_suffix(".stm"), "--tx", "L_amt=40000"], "-32768..32767"),
        (["explain", SHIPPED.with_suffix(".stm"), "--tx", "{"], "no JSON"),
        (["explain", SHIPPED.with_suffix(".stm"), "--tx", "nowhere.json"], "give NAME=VALUE"),
    ],
)
def test_commands_refuse_with_a_reason(arguments, message):
    done = invoke(*arguments)
    assert done.exit_code == 1 and isinstance(done.exception, SentillHostError), done
    assert message in str(done.exception)
