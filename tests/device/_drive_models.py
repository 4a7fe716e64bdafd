"""For the host's tests of model files: many files or many rows in one request."""

from array import array
from struct import unpack_from

from sentill.compat import native
from sentill.errors import ModelError
from sentill.risk.model import Model
from sentill.risk.model_file import check  # noqa: F401  (stays loaded: it is borrowed for every file)

native("risk", "tree_check_viper")  # so does this


def judge(files, rows):
    """Of each file (u16 length, bytes): the code that refuses it, or the scores of the rows (i16, 259 per row)."""
    rows = array("h", rows)
    answers = []
    at = 0
    x = array("h", rows[:259])
    while at < len(files):
        size = unpack_from("<H", files, at)[0]
        try:
            model = Model.from_bytes(files[at + 2 : at + 2 + size])
        except ModelError as error:
            answers.append(error.code)
        else:
            scores = []
            for start in range(0, len(rows), 259):
                for i in range(259):
                    x[i] = rows[start + i]
                scores.append(model.score(x))
                model.rule(x)
                model.explain(x)
                model.next_reason()
            answers.append(scores)
        at += 2 + size
    return answers


def scores(data, rows):
    """Scores (i32) of all rows (i16, as many per row as the model has features)."""
    model = Model.from_bytes(data)
    rows = array("h", rows)
    n = model.n_features
    x = array("h", bytes(2 * model.n_inputs))  # facts for hard rules stay 0
    found = array("i", bytes(4 * (len(rows) // n)))
    for k in range(len(found)):
        for i in range(n):
            x[i] = rows[k * n + i]
        found[k] = model.score(x)
    return bytes(found)
