"""How an error falls with cells, parameters or steps: a power law on what can be removed of it, with its interval.

`error = floor + a * x**-exponent` (Kaplan et al. 2020; Hestness et al. 2017), where the floor is known (that of the
random ties), so that a straight line through logarithms is all there is to fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 3  # sizes that a fit with an interval needs


@dataclass(frozen=True)
class PowerLaw:
    """A fitted `error = floor + exp(intercept) * x**-exponent`.

    Parameters
    ----------
    floor
        What no model can remove.
    intercept, exponent
        Of the line through the logarithms.
    centre, spread
        Mean of log x, and the sum of squared distances from it.
    n
        Sizes.
    residual
        Variance of the points around the line, with n - 2 degrees of freedom.
    drawn
        float (draws, 2): intercept and exponent on samples drawn anew; (0, 2) where there were too few samples.
    n_samples
        Held-out samples behind it.
    """

    floor: float
    intercept: float
    exponent: float
    centre: float
    spread: float
    n: int
    residual: float
    drawn: np.ndarray
    n_samples: int

    def at(self, x: np.ndarray | float) -> np.ndarray:
        """The fitted error."""
        return self.floor + np.exp(self.intercept - self.exponent * np.log(x))

    def band(self, x: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """95 % interval of the fitted error at x."""
        log_x = np.log(x)
        line = self.intercept - self.exponent * log_x
        over_samples = self._over_samples(self.drawn[:, :1] - self.drawn[:, 1:] * np.atleast_1d(log_x))
        half = self._half(self.residual * (1 / self.n + (log_x - self.centre) ** 2 / self.spread), over_samples)
        return self.floor + np.exp(line - half), self.floor + np.exp(line + half)

    @property
    def exponent_interval(self) -> tuple[float, float]:
        """95 % interval of the exponent."""
        half = self._half(self.residual / self.spread, self._over_samples(self.drawn[:, 1:]))
        return float((self.exponent - half).item()), float((self.exponent + half).item())

    def removed_by(self, factor: float) -> tuple[float, float, float]:
        """Share of the reducible error that `factor` times as much removes: value, low and high."""
        value, low, high = (1 - factor**-power for power in (self.exponent, *self.exponent_interval))
        return value, low, high

    @staticmethod
    def _over_samples(drawn: np.ndarray) -> np.ndarray:
        return drawn.var(axis=0, ddof=1) if len(drawn) > 1 else np.zeros(drawn.shape[1])

    def _half(self, fitted: np.ndarray | float, over_samples: np.ndarray) -> np.ndarray:
        """Half an interval: variances add up, and so do their degrees of freedom (Welch 1947, Satterthwaite 1946)."""
        from scipy.stats import t

        total = fitted + over_samples
        below = fitted**2 / max(self.n - 2, 1) + over_samples**2 / max(self.n_samples - 1, 1)
        freedom = np.divide(total**2, below, out=np.ones_like(total), where=below > 0)
        return t.ppf(0.975, freedom) * np.sqrt(total)


def fit_power_law(
    x: Sequence[float],
    errors: Sequence[float],
    floor: float,
    *,
    drawn: np.ndarray | None = None,
    drawn_floor: np.ndarray | None = None,
    n_samples: int = 0,
) -> PowerLaw | None:
    """Fit a line to log(error - floor) by least squares, each size counting alike.

    Parameters
    ----------
    x
        (n,) sizes, over 0; n distinct ones.
    errors
        (n,) errors, means over seeds.
    floor
        Below every error.
    drawn, drawn_floor
        float (draws, n) and (draws,): the same on samples drawn anew, alike for all sizes.
    n_samples
        How many samples were drawn from.

    Returns
    -------
    None where there are fewer than three sizes, or an error that is not above the floor.
    """
    log_x, above = np.log(np.asarray(x, float)), np.asarray(errors, float) - floor
    if len(np.unique(log_x)) < LEAST or not (above > 0).all():
        return None
    intercept, exponent, residual = _line(log_x, np.log(above)[None])
    again = np.empty((0, 2))
    if drawn is not None and drawn_floor is not None and len(drawn):
        above_drawn = drawn - drawn_floor[:, None]
        kept = (above_drawn > 0).all(axis=1)
        again = np.column_stack(_line(log_x, np.log(above_drawn[kept]))[:2])
    centre = float(log_x.mean())
    spread = float(np.square(log_x - centre).sum())
    shape = centre, spread, len(log_x), float(residual[0])
    return PowerLaw(floor, float(intercept[0]), float(exponent[0]), *shape, again, n_samples)


def _line(log_x: np.ndarray, log_y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of each row of log_y (m, n): intercepts, falls (minus the slopes) and residual variances, (m,)."""
    centred = log_x - log_x.mean()
    slope = log_y @ centred / np.square(centred).sum()
    intercept = log_y.mean(axis=1) - slope * log_x.mean()
    residuals = log_y - intercept[:, None] - slope[:, None] * log_x
    return intercept, -slope, np.square(residuals).sum(axis=1) / max(len(log_x) - 2, 1)
