"""A character n-gram language model that also uses the words of the prompt. Pure."""

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
"""For each context how often each character followed it; the key `TOTAL` holds their sum."""

TOTAL = ""


@dataclass(frozen=True)
class Span:
    """A part of an encoded conversation, and the words of the prompt that it answers."""

    start: int
    end: int
    words: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """An encoded conversation, and the parts of it that are learnt."""

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
    """Encode a conversation as one text, with a mark before and after each message.

    Args:
        messages: Its messages.
        responses_only: Learn the assistant's messages only.
        max_length: Keep only so many characters.
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
    """Return the longest words of a prompt: they probably say what it is about."""
    words = sorted(set(_WORD.findall(text.lower())), key=lambda word: (-len(word), word))
    return tuple(words[:PROMPT_WORDS])


class NgramModel:
    """Character n-grams with Witten-Bell interpolation.

    At first the probability `p` of a character is uniform over the alphabet. Each context that was
    learnt, from the shortest to the longest, changes it to `(n + t * p) / (N + t)`: `N` is how many
    characters followed the context, `n` how many of them were this character, `t` how many
    different ones there were. In an answer, each word of the prompt together with the last few
    characters is one more context, the rarest word last. So the model repeats a short answer to a
    prompt that it has learnt nearly word by word. It knows no grammar and no meaning.

    Args:
        alphabet: The characters of the data.
    """

    def __init__(self, alphabet: Iterable[str]) -> None:
        self.alphabet = sorted(set(alphabet) | {END})
        self.counts: Counts = {}
        self.documents: Dict[str, int] = {}

    def loss(self, example: Example) -> Tuple[float, int]:
        """Return the sum of the negative log likelihoods, in nats, and the number of characters."""
        counts, text, total = self.counts, example.text, 0.0
        # One more than the alphabet, so that a character outside it has a probability, too.
        uniform = 1.0 / (len(self.alphabet) + 1)
        for span in example.spans:
            words = self._ranked(span.words)
            for index in range(span.start, span.end):
                character, p = text[index], uniform
                for order in ORDERS:
                    seen = counts.get(text[index - order : index]) if order <= index else None
                    if seen is None:
                        # If this context was not learnt, no longer one was.
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
        """Learn an example, as if it had been learnt `weight` times."""
        if weight <= 0:
            return
        text = example.text
        for span in example.spans:
            for word in span.words:
                self.documents[word] = self.documents.get(word, 0) + 1
            for index in range(span.start, span.end):
                character = text[index]
                for order in ORDERS:
                    # A longer context is stored only if the shorter one was learnt before, because
                    # most long contexts occur only once.
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
        """Count a character after a context. Return whether the context was learnt before."""
        seen = self.counts.get(context)
        if seen is None:
            self.counts[context] = {TOTAL: weight, character: weight}
            return False
        seen[TOTAL] += weight
        seen[character] = seen.get(character, 0.0) + weight
        return True

    def _ranked(self, words: Sequence[str]) -> List[str]:
        """Return the words that were learnt, the most frequent first: the last has most weight."""
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
            limit: The greatest number of characters.
            rng: The random number generator.
        """
        prompt = encode(messages)
        asked = [m.get("content") or "" for m in messages if m.get("role") == "user"]
        words = self._ranked(prompt_words(asked[-1] if asked else ""))
        text = prompt.text + ASSISTANT
        start = len(text)
        while len(text) - start < limit:
            probabilities = self._distribution(text, start, words)
            if len(text) == start:
                probabilities.pop(END, None)
            character = _sample(probabilities, temperature, top_p, rng)
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
        probabilities = dict.fromkeys(self.alphabet, 1.0 / len(self.alphabet))
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
            for character in probabilities:
                probabilities[character] *= kinds / whole
            for character, count in seen.items():
                if character in probabilities:
                    probabilities[character] += count / whole
        return probabilities

    def dump(self) -> bytes:
        """Return the model as bytes."""
        return marshal.dumps((self.alphabet, self.counts, self.documents))

    @classmethod
    def restore(cls, data: bytes) -> NgramModel:
        """Return the model that `dump` wrote. The version of Python has to be the same."""
        alphabet, counts, documents = marshal.loads(data)
        model = cls(alphabet)
        model.counts, model.documents = counts, documents
        return model


def _sample(
    probabilities: Dict[str, float], temperature: float, top_p: float, rng: random.Random
) -> str:
    ranked = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
    if temperature == 0:
        return ranked[0][0]
    best = ranked[0][1]
    kept: Dict[str, float] = {}
    mass = 0.0
    for character, p in ranked:
        # Relative to the best one, so that the power does not underflow at a low temperature.
        kept[character] = (p / best) ** (1 / temperature)
        mass += p
        if mass >= top_p:
            break
    return rng.choices(list(kept), weights=list(kept.values()))[0]
