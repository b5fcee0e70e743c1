"""For authors of apps: seal a request, open its answer, check its receipt. Offline; brings no cell and no broker.

    from anchorhold.client import Expected, Service, chat

    service = Service.checked(offer, broker_key, gateway=gateway, model_root=model_root)
    question = service.ask(chat("little-anchorite-1", "What is an anchorhold?"), expiry=head_height + 1000, caller=me)
    ticket = ...                    submit `question.payload` to the gateway's `submit_sealed`
    answer = question.open(Taken(height, index, id, answer, receipt, signature), receipt_key, Expected())
    answer.words, answer.finish, answer.receipt

A question holds the only key to its answer: keep it (`encode`, `Question.parse`) until the answer is there, and nowhere
that others read. What an answer's receipt is worth hangs on its key being a cell's: `anchorhold verify evidence` shows
that, and `anchorhold audit` all of it at once.
"""

from __future__ import annotations

from anchorhold.client.answer import Answer, Expected, Taken, open_plain
from anchorhold.client.question import Question, Service, chat
from attestation.sealed.errors import AnswerRefused, KeysRefused
from attestation.sealed.request import Mode

__all__ = [
    "Answer",
    "AnswerRefused",
    "Expected",
    "KeysRefused",
    "Mode",
    "Question",
    "Service",
    "Taken",
    "chat",
    "open_plain",
]
