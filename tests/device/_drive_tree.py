"""For the differential tests: a model file, loaded and asked everything."""

from array import array

from sentill.compat import native
from sentill.errors import ModelError
from sentill.risk.model import Model
from sentill.risk.model_file import check  # noqa: F401  (stays loaded: it is borrowed for every file)

native("risk", "tree_check_viper")  # so does this


def ask(data, rows):
    """What a model says of itself and of each row, or the code of the error that refuses it."""
    try:
        model = Model.from_bytes(data)
    except ModelError as error:
        return error.code
    about = [model.model_id, model.schema_id, model.review, model.decline, model.n_inputs, model.n_trees]
    about += [model.n_outputs, model.vote, model.layout, model.reasons, model.rules, model.size]
    x = array("h", bytes(2 * model.n_inputs))
    steps = array("h", bytes(2 * 256))
    answers = []
    for row in rows:
        for i in range(len(x)):
            x[i] = row[i % len(row)]
        votes = [0] * model.n_outputs
        model.votes(x, votes)
        answer = [model.score(x), votes, model.rule(x), model.action]
        model.explain(x)
        weights = [model.weight(i) for i in range(len(model.reasons))]
        named = []
        while True:
            i = model.next_reason()
            if i < 0:
                break
            named.append(i)
        n = model.path(x, 0, steps)
        answers.append([answer, weights, named, list(steps[:n])])
    return about, answers
