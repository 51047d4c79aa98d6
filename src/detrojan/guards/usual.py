"""How far a vector lies from what is usual: a normal distribution fitted to clean inputs' vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.errors import DataError

#: what is added to the correlations' diagonal: few vectors do not tell all of them
_RIDGE = 0.1
#: log odds beyond this say no more
MOST = 50.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Usual:
    """A normal distribution of vectors.

    Attributes:
        mean: (D,), float64.
        scale: what a unit of each number is, (D,), float64, above 0.
        precision: the inverse of the correlations, (D, D), float64.

    """

    mean: torch.Tensor
    scale: torch.Tensor
    precision: torch.Tensor

    @classmethod
    def of(cls, vectors: torch.Tensor) -> Usual:
        """Fit it to vectors (N, D); numbers that do not vary count for nothing."""
        vectors = vectors.double()
        mean, scale = vectors.mean(0), vectors.std(0, correction=0)
        known = scale > 1e-9 * (1 + mean.abs())
        scale = scale.where(known, torch.inf)
        inside = (vectors - mean) / scale
        correlations = inside.T @ inside / len(vectors)
        ridge = _RIDGE * torch.eye(len(mean), dtype=torch.float64)
        return cls(
            mean=mean,
            scale=scale.where(known, 1e30),
            precision=torch.linalg.inv(correlations + ridge).contiguous(),
        )

    def distance(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return how far vectors (N, D) lie from the mean, (N,), float64: about 1 where that is usual."""
        apart = (vectors.double() - self.mean) / self.scale
        squares = ((apart @ self.precision) * apart).sum(1)
        return (squares.clamp(min=0) / len(self.mean)).sqrt().where(squares.isfinite(), torch.nan)

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """Return its tensors, `name` before theirs."""
        return {
            f"{name}.mean": self.mean, f"{name}.scale": self.scale, f"{name}.precision": self.precision,
        }  # fmt: skip

    @classmethod
    def restored(cls, tensors: dict[str, torch.Tensor], name: str, size: int) -> Usual:
        """Rebuild it from a guard's tensors.

        Args:
            tensors: as `state` gave them.
            name: of the distribution.
            size: D.

        Raises:
            DataError: they are not there, or of another shape or kind.

        """
        shapes = {"mean": (size,), "scale": (size,), "precision": (size, size)}
        made = {part: finite_tensor(tensors, f"{name}.{part}", shape) for part, shape in shapes.items()}
        if not bool((made["scale"] > 0).all()):
            raise DataError(f"expected {name}.scale above 0, got {float(made['scale'].min()):g}")
        return cls(**made)


def finite_tensor(
    tensors: dict[str, torch.Tensor],
    name: str,
    shape: tuple[int, ...],
    kind: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Return a tensor out of a guard's file.

    Raises:
        DataError: it is not there, of another shape or type, or holds what is no finite number.

    """
    found = tensors.get(name)
    if found is None or tuple(found.shape) != shape or found.dtype != kind:
        got = "none" if found is None else f"{found.dtype} of shape {tuple(found.shape)}"
        raise DataError(f"expected {name} as {kind} of shape {shape}, got {got}")
    if not bool(found.isfinite().all()):
        raise DataError(f"expected finite numbers in {name}")
    return found


def odds(logits: torch.Tensor, labels: torch.Tensor, *, most: float = MOST) -> torch.Tensor:
    """Return the logarithm of the odds of a label against all others, (N,), float64.

    Args:
        logits: (N, K).
        labels: (N,).
        most: they lie between minus this and this.

    """
    logits = logits.double()
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(own, -torch.inf).logsumexp(1)
    return (logits[own] - others).clamp(-most, most)
