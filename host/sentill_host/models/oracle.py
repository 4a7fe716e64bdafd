"""The node's own risk modules run on this computer: what a board must answer, bit for bit."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sentill.node import config
from sentill.risk import features
from sentill.risk.assess import Assessor
from sentill.risk.model import Model
from sentill_host.board import catalogue
from sentill_host.models.replay import VERDICTS, Answer
from sentill_host.models.transactions import Request

Judgement = tuple[str, int, int, int, str, str]
"""Verdict, score, threshold for review, threshold for decline, model id, reason codes joined by commas."""


class Reference:
    """A node fresh from its first deploy, with the shipped models (or those in the folder `models`)."""

    def __init__(self, models: Path | None = None):
        folder = models or catalogue.device_data("models")
        settings = config.defaults()
        profile, local, rules = (
            folder / Path(settings[name]).name for name in ("model_profile", "model_local", "model_rules")
        )
        # As on the board, the hand-written rules stand in for a model that is not there.
        loaded = [Model.load(str(path if path.exists() else rules), features.SCHEMA_ID) for path in (profile, local)]
        self._assessor = Assessor(features.History(settings["history"]), *loaded)

    def judge(self, request: Request) -> Judgement:
        """What a node answers to this request, given all that came before."""
        a = self._assessor
        code = a.judge(request.t, request.amt, request.pm, request.pn, request.ph)
        a.remember(request.ref, request.amt, request.pm, request.pn)
        reasons = b",".join(a.reasons[: a.n_reasons]).decode()
        return VERDICTS[code], a.score, a.by.review, a.by.decline, bytes(a.by.id).decode(), reasons

    def judgements(self, steps: Iterable[tuple[str, Request]]) -> Iterator[Judgement]:
        """The judgement of every request among the steps of a replay, with the feedback in between taken in."""
        for kind, request in steps:
            if kind == "P":
                self._assessor.feedback(request.ref)
            else:
                yield self.judge(request)

    def differences(self, steps: Iterable[tuple[str, Request]], answers: list[Answer]) -> int:
        """How many requests of a replay a board answered otherwise, or not at all."""
        given = {answer.request.ref: answer.judgement for answer in answers}
        listed = list(steps)
        sent = [request.ref for kind, request in listed if kind == "T"]
        return sum(given.get(ref) != right for ref, right in zip(sent, self.judgements(listed), strict=True))
