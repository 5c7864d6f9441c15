"""Losses as pure functions of log-probabilities. Each gives a value an item, to be summed and divided by their number.

Log-ratios are `log p - log p_reference` of whole completions, natural log.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PairLoss = Literal["sigmoid", "ipo", "hinge", "robust", "conservative"]


def sft_loss(logprobs: Tensor) -> Tensor:
    """Negative log-likelihood of the trained tokens `[tokens]`, summed; divide by the tokens of the whole step."""
    return -logprobs.sum()


def pair_loss(
    kind: PairLoss, difference: Tensor, *, beta: float, smoothing: float = 0.0, margin: float = 0.0
) -> Tensor:
    """A loss for each pair `[pairs]`, from the log-ratio of the chosen one less that of the rejected one `[pairs]`.

    sigmoid        -log s(beta d - margin)               Rafailov et al. 2023, arXiv 2305.18290; the margin is SimPO's,
                                                         Meng et al. 2024, arXiv 2405.14734
    conservative   a share `smoothing` of the labels is taken the other way round          Mitchell 2023, "cDPO"
    robust         unbiased where that share of the labels is wrong     Chowdhury et al. 2024, arXiv 2403.00409
    hinge          max(0, 1 - (beta d - margin))                            Zhao et al. 2023, arXiv 2305.10425
    ipo            (d - 1 / (2 beta))^2, d being a mean over tokens         Azar et al. 2023, arXiv 2310.12036
    """
    if kind == "ipo":
        return (difference - 1 / (2 * beta)) ** 2
    scaled = beta * difference - margin
    if kind == "hinge":
        return torch.relu(1 - scaled)
    right, wrong = -logsigmoid(scaled), -logsigmoid(-scaled)
    if kind == "conservative":
        return (1 - smoothing) * right + smoothing * wrong
    if kind == "robust":
        return ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing)
    return right


def pro_loss(scores: Tensor, grades: Tensor | None = None, *, weighted: bool = False) -> Tensor:
    """Preference ranking optimisation of one ranking, best first. Song et al. 2023, arXiv 2306.17492.

    `scores` `[candidates]` are mean log-probabilities of a token. For each candidate k but the last:
    `-log(exp(s_k / T_kk) / (exp(s_k / T_kk) + sum over i behind k of exp(s_i / T_ki)))`.
    Every T is 1, or `weighted` by grades g `[candidates]`: `T_ki = 1 / (g_k - g_i)`, and `T_kk` is the least of them.
    A candidate of the same grade as k is not compared with it.
    """
    total = scores.new_zeros(())
    for k in range(len(scores) - 1):
        own, behind = scores[k], scores[k + 1 :]
        if grades is not None:
            apart = (grades[k] - grades[k + 1 :]).to(scores.dtype)
            apart, behind = apart[apart > 0], behind[apart > 0]
            if not len(apart):
                continue
            if weighted:
                own, behind = own * apart.max(), behind * apart
        total = total + torch.logsumexp(torch.cat([own[None], behind]), 0) - own
    return total


def kto_loss(ratios: Tensor, good: Tensor, kl: Tensor, *, beta: float, good_weight: float, bad_weight: float) -> Tensor:
    """A loss for each thumb `[thumbs]`. Ethayarajh et al. 2024, arXiv 2402.01306, equation 7.

    `w (1 - s(beta (ratio - kl)))` for a good completion, `w (1 - s(beta (kl - ratio)))` for a bad one.
    """
    signed = torch.where(good, ratios - kl, kl - ratios)
    weights = torch.where(good, good_weight, bad_weight).to(ratios.dtype)
    return weights * (1 - torch.sigmoid(beta * signed))


def reward_pair_loss(better: Tensor, worse: Tensor, margins: Tensor | float = 0.0, *, centre: float = 0.0) -> Tensor:
    """Bradley and Terry 1952 for each pair `[pairs]`: `-log s(better - worse - margin)`.

    `centre` weighs `(better + worse)^2`, which keeps rewards around zero. Eisenstein et al. 2023, arXiv 2312.09244;
    margins: Touvron et al. 2023, arXiv 2307.09288.
    """
    return -logsigmoid(better - worse - margins) + centre * (better + worse) ** 2


def reward_ranking_loss(rewards: Tensor, grades: Tensor | None = None, *, centre: float = 0.0) -> Tensor:
    """Plackett and Luce of one ranking `[candidates]`, best first: each against all behind it of a lower grade.

    With two candidates it is Bradley and Terry's. Plackett 1975; Zhu et al. 2023, arXiv 2301.11270, for rewards.
    `centre` weighs the square of twice the mean, which for two is `(better + worse)^2`.
    """
    return pro_loss(rewards, grades) + centre * (2 * rewards.mean()) ** 2
