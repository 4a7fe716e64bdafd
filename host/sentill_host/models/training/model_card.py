"""Model cards: what a model was made from and how good it is, as JSON, Markdown and plots."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from sentill_host import user_files
from sentill_host.models.training.evaluate import DAY_S
from sentill_host.models.training.run import Trained


def write(trained: Trained, folder: Path, plots: bool = True) -> list[Path]:
    """Write NAME.stm, NAME.card.json, .md and, with `plots`, .png into `folder`; returns the paths."""
    user_files.make_folder(folder)
    name = trained.card["name"]
    card = {**trained.card, "file": f"{name}.stm", "sha256": sha256(trained.model).hexdigest()}
    paths = [folder / f"{name}{suffix}" for suffix in (".stm", ".card.json", ".card.md")]
    user_files.save(paths[0], trained.model)
    user_files.save(paths[1], json.dumps(card, indent=1) + "\n")
    if plots:
        paths.append(folder / f"{name}.card.png")
        plot(trained, paths[-1])
    user_files.save(paths[2], markdown(card, paths[-1].name if plots else None))
    return paths


def markdown(card: dict[str, Any], picture: str | None = None) -> str:
    """The card for people."""
    data, size, limits, loss = card["data"], card["size"], card["thresholds"], card["quantisation"]
    lines = [
        f"# Model `{card['file']}`",
        "",
        f"SHA-256 `{card['sha256']}`",
        "",
        f"Made by `sentill train`: {card['recipe']['kind']}, {trees(size['trees'])}, {size['leaves']} leaves, "
        f"depth {size['depth']}; forest {size['forest_bytes']} bytes, file {size['file_bytes']}.",
        f"Layout: {size['why']}.",
        "",
        "## Data",
        "",
        *([data["about"], ""] if data["about"] else []),
        f"{data['rows']:,} transactions, {data['frauds']:,} frauds, {data['cards']:,} cards, "
        f"{data['terminals']:,} terminals; days {data['first_s'] // DAY_S} to {data['last_s'] // DAY_S} of the data's "
        f"clock. Labels count {data['label_delay_s'] // DAY_S} days after the transaction.",
        "",
        "## Walk-forward evaluation",
        "",
        "Each period was scored in integers. The model was trained elsewhere: whether it had seen these periods "
        "only its maker knows."
        if card["recipe"]["kind"] == "imported"
        else "Each period was scored, in integers, by a model trained only on what was labelled when it began; cards "
        "already known to be compromised are left out.",
        "",
        "| from day | rows | frauds | AUC | average precision | card precision at 100 |",
        "|---|---|---|---|---|---|",
    ]
    for fold in [*card["folds"], {**card["mean"], "start_day": "all"}]:
        lines.append(
            f"| {fold['start_day']} | {fold['rows']:,} | {fold['frauds']} "
            f"| {number(fold['auc'])} | {number(fold['ap'])} | {number(fold['cp100'])} |"
        )
    lines += [
        "",
        f"Quantisation to {loss['leaf_bits']}-bit leaves: average precision {number(loss['ap_real'], '.4f')} before, "
        f"{number(loss['ap_integer'], '.4f')} after; score off by at most {loss['largest_error_units']:.1f} units.",
        "",
        "## Thresholds",
        "",
        f"Chosen on the periods above by {limits['policy']['kind']}: "
        + ", ".join(f"{key} {value}" for key, value in limits["policy"].items() if key != "kind")
        + ".",
        "",
        "| verdict | score from | frauds caught | of their amount | genuine hit |",
        "|---|---|---|---|---|",
    ]
    for verdict, text in (("review", "review or decline"), ("decline", "decline")):
        lines.append(
            f"| {text} | {limits[verdict]} | {number(limits[verdict + '_fraud_share'], '.1%')} "
            f"| {number(limits[verdict + '_amount_share'], '.1%')} "
            f"| {number(limits[verdict + '_genuine_share'], '.2%')} |"
        )
    if card["hard_rules"]:
        lines += ["", "Hard rules come before the score, whatever it is:", ""]
        lines += [f"- `{code}` {text}" for code, text in card["hard_rules"].items()]
    lines += ["", "## What it goes by", "", "Average precision lost when the feature is shuffled:", ""]
    lines += [f"- `{name}` {value:.3f}" for name, value in card["importance"].items() if abs(value or 0) >= 0.0005]
    if picture:
        lines += ["", f"![Evaluation of the model]({picture})"]
    return "\n".join(lines) + "\n"


def trees(count: int) -> str:
    """So many trees, in words."""
    return "1 tree" if count == 1 else f"{count} trees"


def number(value: float | None, style: str = ".3f") -> str:
    """A number in the given style, a dash where it could not be measured."""
    return "-" if value is None else format(value, style)


def plot(trained: Trained, path: Path) -> None:
    """Precision over recall of the last period, importance of the features, and scores by label, as a PNG."""
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_curve

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    if trained.labels.any():
        precision, recall, _ = precision_recall_curve(trained.labels.astype(int), trained.scores)
        left.step(recall, precision, where="post")
    left.set(xlabel="recall", ylabel="precision", title="Newest period", xlim=(0, 1), ylim=(0, 1.02))
    names = list(trained.card["importance"])[::-1]
    middle.barh(names, [trained.card["importance"][name] or 0 for name in names])
    middle.set(title="Average precision lost when shuffled")
    fraud = trained.labels.astype(bool)
    named = {"genuine": trained.scores[~fraud], "fraud": trained.scores[fraud]}
    parts = {label: scores for label, scores in named.items() if len(scores)}
    right.hist(list(parts.values()), bins=40, label=list(parts), density=True, log=True)
    for key, style in (("review", "--"), ("decline", "-")):
        right.axvline(trained.card["thresholds"][key], color="black", linestyle=style, linewidth=1, label=key)
    right.set(title="Scores")
    right.legend()
    figure.savefig(path, dpi=80, metadata={"Software": None})
