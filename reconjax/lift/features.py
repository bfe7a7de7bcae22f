"""What every fixed feature map offers, the simplest ones, and the checks that they share.

The encoder of the lift is linear on fixed features: f(x') = Vᵀ (φ(x') - E φ(x')). A map φ acts on
inputs that are centered and scaled as the moments of the data are, so that 0 is the mean image and
what a mask leaves of a value.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.noise.base import pytree, static

# A function is tried on so many examples.
TRIED = 8


class FeatureMap(Protocol):
    """A fixed φ from centered inputs (n, D) to features (n, m)."""

    @property
    def text(self) -> str:
        """What it is called in results."""
        ...

    @property
    def features(self) -> int | None:
        """D, or None for inputs of any size."""
        return None

    def size(self, features: int) -> int:
        """M, given D."""
        ...

    def workspace(self, features: int) -> int:
        """Numbers that one example needs on the way, given D."""
        return features + self.size(features)

    def apply(self, x: Array) -> Array:
        """φ(x) (n, m) of x (n, D), in the dtype of x."""
        ...


@pytree
class IdentityMap(FeatureMap):
    """φ(x) = x: the linear encoder of the paper."""

    @property
    def text(self) -> str:
        """Its text form."""
        return "identity"

    def size(self, features: int) -> int:
        """D."""
        return features

    def apply(self, x: Array) -> Array:
        """x."""
        return x


@pytree
class FunctionMap(FeatureMap):
    """Any function, or a network with its parameters.

    Attributes:
      parameters: what the function takes first, where it takes any: a tree of arrays.
      function: of examples (n, *example_shape), or of the parameters and these.
      example_shape: (H, W, C) or (D,).
      length: m.
      name: what it is called.
    """

    parameters: Any
    function: Callable[..., Any] = static()
    example_shape: tuple[int, ...] = static()
    length: int = static()
    name: str = static()

    @property
    def text(self) -> str:
        """The name of the function."""
        return self.name

    @property
    def features(self) -> int:
        """D."""
        return math.prod(self.example_shape)

    def size(self, features: int) -> int:
        """The number of values that it returns for one example."""
        return self.length

    def apply(self, x: Array) -> Array:
        """The function's own result, flattened."""
        result = _called(self.function, self.parameters, x.reshape(-1, *self.example_shape))
        return jnp.asarray(result).reshape(x.shape[0], -1).astype(x.dtype)


def identity_features() -> FeatureMap:
    """The inputs themselves: with them the lift is the linear closed form.

    Example:
      >>> reconjax.lift.identity_features().size(64)
      64
    """
    return IdentityMap()


def function_features(
    function: Callable[[Array], ArrayLike], example_shape: Sequence[int], *, name: str | None = None
) -> FeatureMap:
    """The features that a function makes.

    Args:
      function: of centered examples (n, *example_shape), traceable by JAX; it returns (n, ...),
        which is flattened. So `lambda x: net.apply(variables, x)` is a linen network.
      example_shape: (H, W, C) or (D,).
      name: what results call it; by default its own name.

    Raises:
      ValueError: not a function, or one that returns another number of examples, or NaN or inf for
        the mean image.

    Example:
      >>> import jax.numpy as jnp
      >>> squares = reconjax.lift.function_features(lambda x: jnp.concatenate([x, x**2], 1), (6,))
      >>> squares.size(6)
      12
    """
    if not callable(function):
        raise ValueError(f"features: {type(function).__name__}; a function of examples is needed")
    named = name or getattr(function, "__name__", type(function).__name__)
    return _function_map(function, None, example_shape, f"function {named}")


def network_features(
    model: Any, example_shape: Sequence[int], *, method: str | None = None, name: str | None = None
) -> FeatureMap:
    """The activations of a Flax network, in evaluation mode.

    Args:
      model: an `flax.nnx.Module`; what is done to it later is not seen.
      example_shape: (H, W, C) or (D,).
      method: whose result is taken; by default `features`, `encode`, or what it returns as a whole.
      name: what results call it; by default the class of the model.

    Raises:
      ValueError: no such network or method, or as `function_features`.

    Example:
      >>> from flax import nnx
      >>> layer = nnx.Linear(6, 10, rngs=nnx.Rngs(0))
      >>> reconjax.lift.network_features(layer, (6,)).size(6)
      10
    """
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise ValueError(f"model: {type(model).__name__}; an nnx.Module is needed")
    wanted = ("features", "encode", "__call__") if method is None else (method,)
    chosen = next((each for each in wanted if hasattr(model, each)), None)
    if chosen is None:
        raise ValueError(f"method: {method!r}; {type(model).__name__} has none of that name")
    graph, parameters = nnx.split(model)
    dtypes = (leaf.dtype for leaf in jax.tree.leaves(parameters))
    floats = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]

    def activations(parameters: Any, x: Array) -> Array:
        network = nnx.merge(graph, parameters)  # a copy: the caller's keeps its mode
        network.eval()
        # Inputs in the dtype of the parameters, as in training.
        return getattr(network, chosen)(x.astype(floats[0]) if floats else x)

    named = f"network {name or type(model).__name__}"
    return _function_map(activations, parameters, example_shape, named)


def check_features(features: Any, inputs: int) -> int:
    """M, given D.

    Raises:
      ValueError: it is no map of features, or one of inputs of another size.
    """
    if not all(hasattr(features, name) for name in ("apply", "size", "workspace")):
        kind = type(features).__name__
        raise ValueError(f"features: {kind}; `reconjax.lift.parse_features` makes them")
    if features.features not in (None, inputs):
        raise ValueError(f"features: made for {features.features} values; the data have {inputs}")
    return int(features.size(inputs))


def check_values(features: FeatureMap, x: Array) -> None:
    """Raises ValueError for features of another shape, or that are NaN or inf, of x (n, D)."""
    made = features.apply(x)
    wanted = (x.shape[0], features.size(x.shape[1]))
    if made.shape != wanted:
        raise ValueError(f"features: {features.text} makes {made.shape} where {wanted} is needed")
    if bad := int(jnp.sum(~jnp.all(jnp.isfinite(made), axis=0))):
        raise ValueError(f"features: NaN or inf in {bad} of {wanted[1]} features")


def _called(function: Callable[..., Any], parameters: Any, x: Array) -> Any:
    return function(x) if parameters is None else function(parameters, x)


def _function_map(
    function: Callable[..., Any], parameters: Any, example_shape: Sequence[int], name: str
) -> FeatureMap:
    shape = tuple(int(side) for side in example_shape)
    dtype: DTypeLike = jnp.result_type(float)
    some = jax.ShapeDtypeStruct((TRIED, *shape), dtype)
    made = jax.eval_shape(lambda p, x: jnp.asarray(_called(function, p, x)), parameters, some)
    if made.ndim < 1 or made.shape[0] != TRIED or made.size == 0:
        raise ValueError(
            f"features: of {TRIED} examples {name} makes {made.shape}; (n, ...) is needed"
        )
    length = made.size // TRIED
    features = FunctionMap(
        parameters=parameters, function=function, example_shape=shape, length=length, name=name
    )
    check_values(features, jnp.zeros((1, math.prod(shape)), dtype))
    return features
