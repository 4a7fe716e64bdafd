"""Puts the risk engine and the health monitor together from files and configuration, with what is there.

Used once per start: the node borrows this module, and its code and that of config.py leave the heap again.
"""

from gc import collect, threshold
from json import loads

from sentill import __version__
from sentill.compat import Lent, borrow, const
from sentill.errors import ModelError
from sentill.health.monitor import Monitor
from sentill.health.sources import Vitals
from sentill.risk.assess import Assessor
from sentill.risk.features import NAMES, SCHEMA_ID, History
from sentill.risk.model import Model
from sentill.wire.port import Port

from .terminal import Terminal

HISTORY = "history.bin"
HEALTH = "health.bin"
_UART_ROOM = const(720)
_CHURN_BYTES = const(12288)
_MAX_WEAR = const(4096)
CHANNELS = "channels.jsonl"  # the board's health channels, a JSON object per line


def assemble(node) -> None:
    """Give `node` its parts, one after the other; those that fail are faults."""
    threshold(_CHURN_BYTES)  # what stays lies together then; until now there was room to spare
    node.config, node.config_id = load_config(node)
    node.rate_hz = node.config["rate_hz"]
    # First what takes the most code while it is put together, and leaves the least: vault, tamper, what is in audit.
    with Lent("journal", "recovery"), Lent("journal", "ring_read"):
        borrow("node", "boot_flash").open_all(node)
    collect()
    node.monitor = make_monitor(node)
    node.config["channels"] = None  # the largest thing that is needed no more
    with Lent("health", "reset_log"):
        node.vitals = Vitals(node, [channel.source for channel in node.monitor.channels])
    collect()
    node.terminal_port = None
    uart = node.attempt("uart", node.hal.open_uart, node.config["uart_baud"])
    if uart:
        node.terminal_port = Port("uart", uart, _UART_ROOM, True, node.wake.set)
        node.ports.append(node.terminal_port)
    node.assessor, node.model_ids = make_assessor(node)
    if node.tamper.refusing:
        node.assessor = None  # what judges is needed no more, but room for the code that gives new keys
    collect()
    node.terminal = Terminal(node.assessor, node.guard, node.audit, node.vault, node.tamper)
    if node.config["blocked"] and node.assessor:
        node.terminal.blocked = (" " + node.config["blocked"] + " ").encode()
    for name, owner in ((HISTORY, node.assessor), (HEALTH, node.monitor)):
        if owner:
            node.attempt("state", node.store.load, name, owner.restore)
    node.attempt("vitals", borrow("health", "reset_log").count, node)
    facts = [("sw", __version__), ("cfg", node.config_id)] + node.model_ids
    borrow("node", "boot_flash").note_start(node.audit, facts, node.faults)


def load_config(node) -> tuple:
    """The configuration and its id; the defaults and zeros where the file is missing or wrong, which is a fault."""
    config = borrow("node", "config")
    loaded = node.attempt("config", config.load, node.store.path(config.PATH))
    return loaded or (config.defaults(), "0" * 8)


def make_assessor(node) -> tuple:
    """The risk engine with the models of the configuration, None without any, and the ids of its models for people.

    A model that is missing or damaged is a fault, and the hand-written rules take its place.
    """
    names = ("model_profile", "model_local")
    with Lent("risk", "model_file"), Lent("risk", "tree_check_viper"):
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
        model = Model.load(path, SCHEMA_ID)
    except OSError:
        raise ModelError("missing", "no model in " + path)
    model.drop_texts()
    if model.reasons == NAMES:
        model.reasons = NAMES  # once in memory, not once a model
    return model


def make_monitor(node):
    """The health monitor with the channels of the configuration, else with those of the board.

    What is wrong with one of them, or with the board's file, is a fault; the others are watched.
    """
    monitor = Monitor()
    with Lent("health", "channel_spec"):
        _add_channels(node, monitor)
    for i in range(len(monitor.channels)):
        source = monitor.channels[i].source
        if source.startswith("wear:"):
            node.attempt("wear", _attach, node, monitor, i, source[5:])
    return monitor


def _add_channels(node, monitor):
    specs = node.config["channels"]
    if specs is None:
        node.attempt("channels", _add_of_board, node, monitor)
    else:
        for spec in specs:
            node.attempt("channels", monitor.add, spec)


def _attach(node, monitor, i, name):
    # Without its index the channel stays, as a sensor that does not answer.
    from sentill.health.degradation import WearIndex, attach

    try:
        with open(node.store.path(name), "rb") as file:
            data = file.read(_MAX_WEAR + 1)
    except OSError:
        raise ModelError("missing", "no wear index in " + name)
    attach(monitor, i, WearIndex(data))


def _add_of_board(node, monitor):
    # One at a time: all of them as dicts would take 8 KB of heap. A board without the file has no channels.
    try:
        file = open(node.store.path(CHANNELS))
    except OSError:
        return
    with file:
        while line := file.readline():
            node.attempt("channels", monitor.add, loads(line))
