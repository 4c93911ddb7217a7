"""Token by token: greedy and beam search over a decoder, by the rules of transformers' `generate`.

Ties of scores aside, both give the tokens that transformers 5 gives for the same logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastdup_dagster.models.captioning.options import GenerationOptions, SpecialTokens

Tokens = NDArray[np.int64]
Scores = NDArray[np.float32]


class DecoderRun(Protocol):
    """A decoder at work on some texts."""

    def logits(self, tokens: Tokens) -> Scores:
        """What may follow each text: rows x vocabulary, float32.

        Args:
            tokens: rows x length, each row one token longer than at the last call.
        """

    def select(self, rows: Tokens) -> None:
        """Goes on with these rows of the texts, which may repeat or leave out some."""


def generate(run: DecoderRun, prompt: Tokens, options: GenerationOptions, special: SpecialTokens) -> list[list[int]]:
    """The texts, prompt and end token included, without padding.

    Args:
        run: the decoder, with as many rows as the prompt.
        prompt: tokens to start from, rows x length.
        options: how.
        special: the tokens that mean something.

    Raises:
        ValueError: if the options leave no room for a token.
    """
    search = _greedy if options.num_beams == 1 else _beam_search
    return search(run, prompt, options, special)


def _greedy(run: DecoderRun, prompt: Tokens, options: GenerationOptions, special: SpecialTokens) -> list[list[int]]:
    start = prompt.shape[1]
    most = options.max_tokens(start)
    texts: list[list[int]] = [[] for _ in prompt]
    rows, tokens = np.arange(len(prompt)), prompt
    while True:
        best = _processed(run.logits(tokens), tokens, start, options, special).argmax(axis=1)
        tokens = np.concatenate([tokens, best[:, None]], axis=1)
        ends = np.isin(best, special.end) | (tokens.shape[1] >= most)
        for row in np.flatnonzero(ends):
            texts[rows[row]] = tokens[row].tolist()
        if ends.all():
            return texts
        if ends.any():
            going = np.flatnonzero(~ends)
            rows, tokens = rows[going], tokens[going]
            run.select(going)


@dataclass
class _Beams:
    """The search for one text.

    Attributes:
        tokens: of the running beams, beams x length.
        scores: of the running beams, sums of log probabilities, the best first.
        finished: score and tokens of the ended beams, the best first.
    """

    tokens: Tokens
    scores: Scores
    finished: list[tuple[float, list[int]]] = field(default_factory=list)

    def advance(
        self, scores: Scores, options: GenerationOptions, special: SpecialTokens, start: int, most: int
    ) -> tuple[Tokens, bool]:
        """One more token.

        Args:
            scores: log probabilities of what follows each beam, beams x vocabulary.
            options: how.
            special: which tokens end a text.
            start: length of the prompt.
            most: length at which a text ends anyway.

        Returns:
            Which beam each of the new beams goes on from, and whether the search is over.
        """
        width, vocabulary = options.num_beams, scores.shape[1]
        sums = (scores + self.scores[:, None]).ravel()
        # As many as it takes for `width` beams to go on, even if the best ones all end.
        count = max(2, 1 + len(special.end)) * width
        best = _top(sums, count)
        beams, words = np.divmod(best, vocabulary)
        length = self.tokens.shape[1] + 1
        ends = np.isin(words, special.end) | (length >= most)
        for rank in np.flatnonzero(ends[:width]):
            score = float(sums[best[rank]] / (length - start) ** options.length_penalty)
            self.finished.append((score, [*self.tokens[beams[rank]].tolist(), int(words[rank])]))
        self.finished = sorted(self.finished, key=lambda text: -text[0])[:width]
        going = np.flatnonzero(~ends)[:width]
        if length >= most:
            return beams[:0], True
        self.tokens = np.concatenate([self.tokens[beams[going]], words[going, None]], axis=1)
        self.scores = sums[best[going]]
        return beams[going], self._is_over(options, start, most)

    def _is_over(self, options: GenerationOptions, start: int, most: int) -> bool:
        """Whether no running beam is looked at any more."""
        if len(self.finished) < options.num_beams:
            return False
        if options.early_stopping is True:
            return True
        # Longer texts are the better ones under a positive penalty: with "never" the best that could still be counts.
        hopeful = options.early_stopping == "never" and options.length_penalty > 0
        length = (most if hopeful else self.tokens.shape[1]) - start
        return bool(self.scores[0] / length**options.length_penalty <= self.finished[-1][0])


def _beam_search(
    run: DecoderRun, prompt: Tokens, options: GenerationOptions, special: SpecialTokens
) -> list[list[int]]:
    width, start = options.num_beams, prompt.shape[1]
    most = options.max_tokens(start)
    # All beams begin alike: but for the first they must not count at the first token.
    first = np.array([0, *[-1e9] * (width - 1)], dtype=np.float32)
    texts = [_Beams(np.repeat(row[None], width, axis=0), first) for row in prompt]
    run.select(np.repeat(np.arange(len(prompt)), width))
    running = list(texts)
    while running:
        tokens = np.concatenate([text.tokens for text in running])
        scores = _processed(_log_softmax(run.logits(tokens)), tokens, start, options, special)
        going: list[_Beams] = []
        rows: list[Tokens] = []
        for number, text in enumerate(running):
            own = slice(number * width, (number + 1) * width)
            beams, over = text.advance(scores[own], options, special, start, most)
            if not over:
                going.append(text)
                rows.append(beams + number * width)
        running = going
        if running:
            run.select(np.concatenate(rows))
    return [text.finished[0][1] for text in texts]


def _top(values: Scores, count: int) -> Tokens:
    """Indices of the largest values, the largest first."""
    count = min(count, len(values))
    found = np.argpartition(-values, count - 1)[:count]
    return found[np.argsort(-values[found], kind="stable")]


def _log_softmax(logits: Scores) -> Scores:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _processed(
    scores: Scores, tokens: Tokens, start: int, options: GenerationOptions, special: SpecialTokens
) -> Scores:
    """Scores after what the options hold against repetition and against an early end, in transformers' order."""
    rows = np.arange(len(tokens))[:, None]
    if options.repetition_penalty != 1:
        penalty = np.float32(options.repetition_penalty)
        said = scores[rows, tokens]
        scores = scores.copy()
        scores[rows, tokens] = np.where(said < 0, said * penalty, said / penalty)
    size = options.no_repeat_ngram_size
    if size and tokens.shape[1] + 1 >= size:
        scores = scores.copy()
        for row, text in enumerate(tokens.tolist()):
            last = text[len(text) - size + 1 :]
            repeated = [text[at + size - 1] for at in range(len(text) - size + 1) if text[at : at + size - 1] == last]
            scores[row, repeated] = -np.inf
    if tokens.shape[1] < options.min_tokens(start):
        scores = scores.copy()
        scores[:, list(special.end)] = -np.inf
    return scores
