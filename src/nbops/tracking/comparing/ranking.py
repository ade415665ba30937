"""What the name of a metric tells: which ones a person looks at first, and whether more of it is better."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BY_NBOPS = ("watch/", "system/")
_SCORES = ("acc", "f1", "auc", "r2", "score", "precision", "recall", "map", "iou", "bleu")
_WORD = re.compile(r"[a-z]+[0-9]*")
_SCORE_WORDS = """
accuracy acc ap auc auprc auroc bleu dice f1 fbeta hit hits iou jaccard kappa map map50 map95 mcc meteor miou mrr ndcg
pearson precision psnr r2 recall return reward roc rouge score sensitivity spearman specificity ssim throughput
top1 top5
"""
_ERROR_WORDS = """
bce brier ce cer cost deviance duration ece err error fid kl latency logloss loss mae mape mse nll perplexity ppl regret
rmse rmsle smape wer
"""
_MORE, _LESS = frozenset(_SCORE_WORDS.split()), frozenset(_ERROR_WORDS.split())


def ranked(metrics: Iterable[str]) -> list[str]:
    """Return metric names, what one looks at first first: held-out scores, scores, losses, the rest.

    What nbops measures by itself (``watch/…``, ``system/…``) is left out where the user logged anything.
    """
    names = list(metrics)

    def rank(name: str) -> tuple[bool, bool, bool, str]:
        low = name.lower()
        held_out = any(part in low for part in ("val", "test", "eval"))
        return not any(part in low for part in _SCORES), "loss" not in low, not held_out, low

    own = [name for name in names if not name.startswith(_BY_NBOPS)]
    return sorted(own or names, key=rank)


def is_more_better(metric: str) -> bool | None:
    """Return whether a greater value is better, as far as the name tells; None where it tells nothing.

    The last telling word decides: ``accuracy_error`` is an error, ``val/f1`` a score.
    """
    for word in reversed(_WORD.findall(metric.lower())):
        if word in _LESS:
            return False
        if word in _MORE:
            return True
    return None
