"""Every tag that a run writes, with the explanation that TensorBoard shows beside its chart, and how charts are grouped."""

from __future__ import annotations

TAGS: dict[str, str] = {
    "rollout/ep_rew_mean": "Undiscounted return, mean of the last 100 training episodes; explores, so it trails eval/mean_reward.",
    "rollout/ep_len_mean": "Episode length in transitions, mean of the last 100 training episodes.",
    "rollout/episodes": "Training episodes finished so far.",
    "eval/mean_reward": "Undiscounted return, greedy on the posterior mean, mean over evaluation episodes.",
    "eval/mean_ep_length": "Length of the evaluation episodes in transitions, mean.",
    "train/loss": "Objective of the last update, per observation: nll + temperature-weighted kl.",
    "train/nll": "Negative log-likelihood of the temporal-difference targets, per observation and draw.",
    "train/kl": "KL term of the ELBO per observation, times the temperature.",
    "train/policy_value": "Mean value of the policies' own actions at what was last learned from, in return units, each by its own draw.",
    "train/n_updates": "Updates so far.",
    "uncertainty/q_epistemic_std": "Standard deviation over posterior draws of Q at the mean's greedy action, averaged over recent states, in return units; shrinks with data.",
    "uncertainty/q_aleatoric_std": "Standard deviation of the realized discounted return around its predicted mean that is left after the epistemic part, learned from finished episodes, in return units.",
    "uncertainty/action_disagreement": "Share of posterior draws whose greedy action differs from the mean's, over recent states; 0 when the draws agree on what to do.",
    "uncertainty/start_value": "Value at the last episode's first state, mean over draws, in return units.",
    "uncertainty/start_value_p05": "5 % quantile over draws of the value at the last episode's first state (epistemic only).",
    "uncertainty/start_value_p95": "95 % quantile over draws of the value at the last episode's first state (epistemic only).",
    "uncertainty/posterior_kl": "KL of the weights' posterior from their prior, in nats; absent for posteriors without one.",
    "uncertainty/collapsed": "1 where the draws differ by less than a thousandth of the Q-values' size: the posterior has become a point and explores no more.",
    "calibration/return_coverage_90": "Share of the last 100 terminated episodes whose discounted return lay in the 90 % band predicted at their first state, before anything of them was stored; 0.9 is calibrated.",
    "calibration/return_ece": "Quantile calibration error: mean distance between 20 levels and the share of the last 100 returns below the quantile predicted for them; 0 is calibrated, 0.03 is chance.",
    "calibration/return_rmse": "Root mean squared error of the value predicted at the first state against the discounted return, over the last 100 terminated episodes, in return units.",
    "calibration/return_std": "The error that was predicted for the same episodes, epistemic and aleatoric together, in return units; equal to calibration/return_rmse where calibrated, below it where too sure.",
    "calibration/episodes_scored": "Episodes the coverage has been computed from, so far.",
    "calibration/episodes_truncated": "Truncated episodes, which have no realized return and are left out, so far.",
    "model/nll": "Negative log-likelihood of the last new transitions under the dynamics fitted before they were learned from, in nats a transition, in units of standardized targets.",
    "model/crps": "Continuous ranked probability score of the same predictions, mean over targets, in standard deviations of what has been seen; lower is better.",
    "model/coverage_90": "Share of changes and rewards of the last new transitions inside the 5-95 % band predicted for them; 0.9 is calibrated.",
    "model/ece": "Quantile calibration error of the same predictions; 0 is calibrated.",
    "model/epistemic_std": "How far worlds drawn from the posterior differ in the next step, in standard deviations of what has been seen; shrinks with data.",
    "model/aleatoric_std": "Noise that each world expects in the next step, in standard deviations of what has been seen.",
    "model/temperature": "Temperature of the posterior that is acted on: the one that predicted new episodes best; absent for posteriors without one.",
    "model/broken": "Candidate plans whose rollout was not finite and which were scored -inf, so far.",
    "ahead/rmse": "Error of the mean prediction 10 steps ahead in new episodes, actions given, in standard deviations of where they went.",
    "ahead/coverage_90": "Share of the observations 10 steps ahead inside the 5-95 % band of worlds; 0.9 is calibrated.",
    "ahead/return": "Sum of the 10 rewards at the end of the last episode, predicted before it was learned from, mean over worlds.",
    "ahead/return_p05": "5 % quantile over worlds, with their noise, of the same sum.",
    "ahead/return_p95": "95 % quantile over worlds, with their noise, of the same sum.",
    "ahead/return_happened": "What the same sum turned out to be.",
    "time/fps": "Transitions per second since the last row.",
    "time/total_timesteps": "Transitions so far.",
    "time/env_share": "Share of the time spent stepping environments.",
    "time/act_share": "Share of the time spent choosing actions.",
    "time/learn_share": "Share of the time spent storing and updating.",
    "time/evaluate_share": "Share of the time spent in evaluation episodes.",
    "time/log_share": "Share of the time spent logging and saving.",
}  # fmt: skip

# Of the whole run, written as it ends; `result.json` has them too.
FINAL: dict[str, str] = {
    "final/return": "Undiscounted return, greedy on the posterior mean, mean over the episodes played when training has ended.",
    "final/episodes_to_solve": "Training episodes after which the task counted as solved.",
    "final/hours": "Wall time of training, over all sessions.",
}  # fmt: skip

HISTOGRAMS: dict[str, str] = {
    "calibration/return_pit": "Where the last 100 returns lay in the distribution predicted for them as their episodes began (probability integral transform), in 20 bins: flat is calibrated, a heap in the middle too cautious, heaps at both ends too sure, a heap at 0 too optimistic.",
    "posterior/weight_mean": "Means of the network's weights over 20 posterior draws.",
    "posterior/weight_log10_std": "Decimal logarithm of the standard deviations of the network's weights over 20 posterior draws, of those that differ between draws; moves left as the posterior contracts.",
}  # fmt: skip

PROBABILITIES = ("calibration/return_pit",)  # histograms of numbers from 0 to 1, in 20 bins

IMAGES: dict[str, str] = {
    "uncertainty/q_along_episode": "Q of the actions taken in the first episode of the last evaluation, with its 5-95 % band over posterior draws, beside the discounted return that followed where the episode ended in the world; below, the standard deviation over draws.",
    "uncertainty/map": "Standard deviation of Q over posterior draws at the greedy action, in each cell of a grid world.",
    "model/steps_ahead": "The last steps of the newest episode, as worlds foresaw them under the actions taken, before they were learned from: median and 5-95 % band over worlds with their noise, beside what happened; the first numbers of the observation, and the reward.",
    "exploration/visits": "How often each cell of a grid world is in the replay memory.",
    "calibration/reliability": "Share of the last 100 predicted returns that fell below each predicted quantile: on the diagonal is calibrated, and inside the band for all that 100 returns can tell; above it returns are lower than predicted.",
}  # fmt: skip

# Of the configurations, compared in the HPARAMS tab.
COMPARED = (
    "final/return", "final/episodes_to_solve", "eval/mean_reward", "rollout/ep_rew_mean", "uncertainty/q_epistemic_std",
    "calibration/return_coverage_90", "calibration/return_ece", "final/hours",
)  # fmt: skip

OF_VALUES = ("uncertainty", "calibration", "posterior")  # sections that are empty where an agent has worlds alone
LAYOUT = {
    "return": {
        "return, training and evaluation": ["Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]],
        "length of episodes": ["Multiline", ["rollout/ep_len_mean", "eval/mean_ep_length"]],
    },
    "uncertainty": {
        "value at the start, 5-95 % over draws": [
            "Margin",
            ["uncertainty/start_value", "uncertainty/start_value_p05", "uncertainty/start_value_p95"],
        ],
        "standard deviation of Q": ["Multiline", ["uncertainty/q_epistemic_std", "uncertainty/q_aleatoric_std"]],
        "disagreement of draws": ["Multiline", ["uncertainty/action_disagreement"]],
    },
    "calibration": {
        "coverage of the 90 % band": ["Multiline", ["calibration/return_coverage_90"]],
        "error of the return predicted at the start": [
            "Multiline",
            ["calibration/return_rmse", "calibration/return_std"],
        ],
        "calibration error of the return's quantiles": ["Multiline", ["calibration/return_ece"]],
    },
    "posterior": {
        "KL from the prior, nats": ["Multiline", ["uncertainty/posterior_kl"]],
        "collapsed to a point": ["Multiline", ["uncertainty/collapsed"]],
    },
    "learning": {
        "loss": ["Multiline", ["train/loss"]],
        "ELBO terms": ["Multiline", ["train/nll", "train/kl"]],
    },
    "dynamics": {
        "return of 10 steps: predicted, 5-95 % over worlds": [
            "Margin",
            ["ahead/return", "ahead/return_p05", "ahead/return_p95"],
        ],
        "return of 10 steps: what happened, and the band": [
            "Multiline",
            ["ahead/return_happened", "ahead/return_p05", "ahead/return_p95"],
        ],
        "coverage of the 90 % band, 1 and 10 steps ahead": ["Multiline", ["model/coverage_90", "ahead/coverage_90"]],
        "next step: unsure, and noisy": ["Multiline", ["model/epistemic_std", "model/aleatoric_std"]],
        "next step: negative log-likelihood, nats": ["Multiline", ["model/nll"]],
        "10 steps ahead: error": ["Multiline", ["ahead/rmse"]],
    },
    "time": {
        "where it goes": ["Multiline", [f"time/{part}_share" for part in ("env", "act", "learn", "evaluate", "log")]],
        "transitions per second": ["Multiline", ["time/fps"]],
    },
}


def layout(values: bool, worlds: bool) -> dict[str, dict]:
    """The sections that an agent fills which has values, and which has worlds."""
    empty = (() if values else OF_VALUES) + (() if worlds else ("dynamics",))
    return {section: charts for section, charts in LAYOUT.items() if section not in empty}
