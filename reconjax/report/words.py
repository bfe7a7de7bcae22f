"""Noises, numbers and recipes in words."""

from reconjax.studies.advice import Recipe

NO_NOISE = "no mask"


def percent(share: float, digits: int = 1) -> str:
    """0.5803 as "58.0%"; never the sign of a zero."""
    return f"{round(100 * share, digits) + 0.0:.{digits}f}%"


def points(gain: float, digits: int = 2) -> str:
    """A difference of two shares, 0.0123 as "+1.23 percentage points"."""
    return f"{round(100 * gain, digits) + 0.0:+.{digits}f} percentage points"


def p_words(value: float) -> str:
    """A p-value, of which three digits are enough."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def listed(words: list[str]) -> str:
    """Words with commas, and the last with "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def noise_words(text: str) -> str:
    """A noise, and a target after a space, as `reconjax.noise.parse_noise` has it, in words."""
    noise, _, target = text.partition(" ")
    words = _noise(noise)
    return f"{words}, predicting {target_words(target)}" if target else words


def _noise(text: str) -> str:
    if not text:
        return NO_NOISE
    kind, *values = text.split(":")
    if kind == "gaussian":
        return f"Gaussian noise of standard deviation {values[0]}"
    if kind not in ("mask", "exact", "pixel") or any("=" in value for value in values):
        return text
    ratio = float(values[0])
    if ratio == 0:
        return NO_NOISE
    share = f"{'exactly ' if kind == 'exact' else ''}{percent(ratio, 0)} dropped"
    if kind == "pixel":
        return f"single values, {share}"
    sides = values[1].split("x")
    height, width = sides if len(sides) == 2 else sides * 2
    patch = "single pixels" if height == width == "1" else f"{height} × {width} patches"
    return f"{patch}, {share}"


def target_words(text: str) -> str:
    """What is reconstructed."""
    kind, _, value = text.partition(":")
    if kind == "whitened":
        return f"pixels whitened by a power of {value}"
    if kind == "patch-centered":
        return f"patches of {value} less their mean"
    if kind == "highpass":
        return f"pixels less their blur of {value} pixels"
    return text or "pixels"


def recipe_words(recipe: Recipe) -> str:
    """Objective and target."""
    if recipe.objective == "joint-embedding":
        return "embed two masked views jointly"
    return f"reconstruct {target_words(recipe.target)}"
