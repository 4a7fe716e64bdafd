"""Puts the risk engine and the health monitor together from files and configuration, with what is there."""

from .errors import ModelError
from .features import SCHEMA_ID, History
from .health import Monitor
from .risk import Assessor
from .tree import Model


def make_assessor(node) -> tuple:
    """The risk engine with the models of the configuration, None without any, and the ids of its models for people.

    A model that is missing or damaged is a fault, and the hand-written rules take its place.
    """
    names = ("model_profile", "model_local")
    models = [node.attempt(name, load_model, node.store.path(node.config[name])) for name in names]
    if None in models:
        rules = node.attempt("model_rules", load_model, node.store.path(node.config["model_rules"]))
        models = [model or rules for model in models]
    if None in models:
        return None, []
    history = node.attempt("history", History, node.config["history"])
    assessor = history and node.attempt("risk", Assessor, history, models[0], models[1])
    return assessor, [("mp", models[0].model_id), ("ml", models[1].model_id)]


def load_model(path: str):
    """The model in the file `path`, made for the features of this node. Raises ModelError."""
    try:
        return Model.load(path, SCHEMA_ID)
    except OSError:
        raise ModelError("missing", "no model in " + path)


def make_monitor(node, specs) -> tuple:
    """The health monitor of those `specs` that are right, and their sources. A wrong one is a fault."""
    good = []
    for spec in specs:
        if node.attempt("channels", Monitor, [spec]):
            good.append(spec)
    return Monitor(good), [spec.get("source", "") for spec in good]
