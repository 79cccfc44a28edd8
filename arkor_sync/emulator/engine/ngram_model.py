"""A character n-gram language model that is told which words the prompt had. Pure."""

from __future__ import annotations

import marshal
import math
import random
import re
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

ORDERS = (0, 1, 2, 3, 4, 6, 9, 12)
PROMPT_ORDERS = (5, 14)
PROMPT_WORDS = 5

SYSTEM, USER, ASSISTANT, TOOL, END = "\x01", "\x02", "\x03", "\x04", "\x05"
MARKS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}
_CONTROL = re.compile("[\x00-\x05]")
_WORD = re.compile(r"\w{3,}")

Counts = Dict[str, Dict[str, float]]
"""Context to what followed it, and how often; the empty string holds the context's total."""

TOTAL = ""


@dataclass(frozen=True)
class Span:
    """A part of an encoded conversation: which characters, after which prompt words."""

    start: int
    end: int
    words: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """An encoded conversation and the parts of it that are to be learnt."""

    text: str
    spans: Tuple[Span, ...]

    @property
    def size(self) -> int:
        """How many characters are learnt."""
        return sum(span.end - span.start for span in self.spans)


def encode(
    messages: Iterable[Dict[str, str]],
    *,
    responses_only: bool = False,
    max_length: Optional[int] = None,
) -> Example:
    """Write a conversation as one text, a mark before and after each message.

    Args:
        messages: Its messages.
        responses_only: Learn the assistant's messages only.
        max_length: Keep so many characters.
    """
    text = ""
    spans: List[Span] = []
    words: Tuple[str, ...] = ()
    for message in messages:
        role, content = message.get("role", ""), message.get("content") or ""
        mark = MARKS.get(role, USER)
        if mark == USER:
            words = prompt_words(content)
        text += mark
        start = len(text)
        text += _CONTROL.sub(" ", content) + END
        if mark == ASSISTANT:
            spans.append(Span(start, len(text), words))
        elif not responses_only:
            spans.append(Span(start, len(text)))
    limit = len(text) if max_length is None else max_length
    spans = [Span(s.start, min(s.end, limit), s.words) for s in spans if s.start < limit]
    return Example(text[:limit], tuple(spans))


def prompt_words(text: str) -> Tuple[str, ...]:
    """Return the longest words of a prompt, the best guess at what it is about."""
    words = sorted(set(_WORD.findall(text.lower())), key=lambda word: (-len(word), word))
    return tuple(words[:PROMPT_WORDS])


class NgramModel:
    """Interpolated character n-grams (Witten-Bell), which count while they read.

    The probability of a character starts as uniform over the alphabet. Each longer context that
    was seen before mixes in what followed it, `(n + t * p) / (N + t)`: `n` of `N` times that
    character, `t` different ones. In an answer, each word of the prompt together with the last
    few characters is one more context, the rarest word last. So a short answer to a prompt that
    was learnt comes back nearly word by word, and that is all there is to it: the model knows
    no grammar and no meaning.

    Args:
        alphabet: The characters that the data may have.
    """

    def __init__(self, alphabet: Iterable[str]) -> None:
        self.alphabet = sorted(set(alphabet) | {END})
        self.counts: Counts = {}
        self.documents: Dict[str, int] = {}

    def loss(self, example: Example) -> Tuple[float, int]:
        """Return the negative log likelihood in nats, summed, and over how many characters."""
        counts, text, total = self.counts, example.text, 0.0
        # One more than the alphabet: a character outside it has a probability, too.
        uniform = 1.0 / (len(self.alphabet) + 1)
        for span in example.spans:
            words = self._ranked(span.words)
            for index in range(span.start, span.end):
                character, p = text[index], uniform
                for order in ORDERS:
                    seen = counts.get(text[index - order : index]) if order <= index else None
                    if seen is None:
                        # A longer context cannot have been seen either.
                        break
                    kinds = len(seen) - 1
                    p = (seen.get(character, 0.0) + kinds * p) / (seen[TOTAL] + kinds)
                if words:
                    for order in PROMPT_ORDERS:
                        recent = text[max(span.start, index - order) : index]
                        for word in words:
                            seen = counts.get(f"{word}\0{recent}")
                            if seen is not None:
                                kinds = len(seen) - 1
                                p = (seen.get(character, 0.0) + kinds * p) / (seen[TOTAL] + kinds)
                total -= math.log(p)
        return total, example.size

    def learn(self, example: Example, weight: float) -> None:
        """Count an example, as if it had been read `weight` times."""
        if weight <= 0:
            return
        text = example.text
        for span in example.spans:
            for word in span.words:
                self.documents[word] = self.documents.get(word, 0) + 1
            for index in range(span.start, span.end):
                character = text[index]
                for order in ORDERS:
                    # A longer context is kept once the shorter one has been seen before: most
                    # long contexts never come back.
                    if order > index or not self._count(
                        text[index - order : index], character, weight
                    ):
                        break
                if span.words:
                    for order in PROMPT_ORDERS:
                        recent = text[max(span.start, index - order) : index]
                        for word in span.words:
                            self._count(f"{word}\0{recent}", character, weight)

    def _count(self, context: str, character: str, weight: float) -> bool:
        """Count a character after a context; tell whether the context had been seen before."""
        seen = self.counts.get(context)
        if seen is None:
            self.counts[context] = {TOTAL: weight, character: weight}
            return False
        seen[TOTAL] += weight
        seen[character] = seen.get(character, 0.0) + weight
        return True

    def _ranked(self, words: Sequence[str]) -> List[str]:
        """Return the words that were seen, the most common first: the last one weighs most."""
        known = [word for word in words if word in self.documents]
        return sorted(known, key=lambda word: (-self.documents[word], word))

    def generate(
        self,
        messages: Iterable[Dict[str, str]],
        *,
        temperature: float,
        top_p: float,
        limit: int,
        rng: random.Random,
    ) -> Iterator[str]:
        """Answer a conversation, character by character.

        Args:
            messages: The conversation so far.
            temperature: 0 takes the likeliest character each time.
            top_p: Sample from the likeliest characters that together have this probability.
            limit: The most characters.
            rng: The source of chance.
        """
        prompt = encode(messages)
        asked = [m.get("content") or "" for m in messages if m.get("role") == "user"]
        words = self._ranked(prompt_words(asked[-1] if asked else ""))
        text = prompt.text + ASSISTANT
        start = len(text)
        while len(text) - start < limit:
            odds = self._distribution(text, start, words)
            if len(text) == start:
                odds.pop(END, None)
            character = _draw(odds, temperature, top_p, rng)
            if character == END:
                return
            text += character
            yield character

    def score(self, messages: List[Dict[str, str]], answer: str) -> float:
        """Return the mean log likelihood of an answer to a conversation, per character."""
        example = encode([*messages, {"role": "assistant", "content": answer}])
        total, size = self.loss(Example(example.text, example.spans[-1:]))
        return -total / size

    def _distribution(self, text: str, start: int, words: Sequence[str]) -> Dict[str, float]:
        odds = dict.fromkeys(self.alphabet, 1.0 / len(self.alphabet))
        contexts = [text[len(text) - order :] for order in ORDERS if order <= len(text)]
        for order in PROMPT_ORDERS:
            recent = text[max(start, len(text) - order) :]
            contexts += [f"{word}\0{recent}" for word in words]
        for context in contexts:
            seen = self.counts.get(context)
            if seen is None:
                continue
            kinds = len(seen) - 1
            whole = seen[TOTAL] + kinds
            for character in odds:
                odds[character] *= kinds / whole
            for character, count in seen.items():
                if character in odds:
                    odds[character] += count / whole
        return odds

    def dump(self) -> bytes:
        """Return the model as bytes."""
        return marshal.dumps((self.alphabet, self.counts, self.documents))

    @classmethod
    def restore(cls, data: bytes) -> NgramModel:
        """Return the model that `dump` wrote, by the same version of Python."""
        alphabet, counts, documents = marshal.loads(data)
        model = cls(alphabet)
        model.counts, model.documents = counts, documents
        return model


def _draw(odds: Dict[str, float], temperature: float, top_p: float, rng: random.Random) -> str:
    ranked = sorted(odds.items(), key=lambda item: (-item[1], item[0]))
    if temperature == 0:
        return ranked[0][0]
    best = ranked[0][1]
    kept: Dict[str, float] = {}
    mass = 0.0
    for character, p in ranked:
        # Relative to the best one, so that a small temperature does not underflow.
        kept[character] = (p / best) ** (1 / temperature)
        mass += p
        if mass >= top_p:
            break
    return rng.choices(list(kept), weights=list(kept.values()))[0]
