"""Modules that keep something that was made from their tensors."""

from collections.abc import Callable

from torch import Tensor, nn


class CachingModule(nn.Module):
    """Module with an attribute ``_cache`` that is made from its tensors at the first use, and None before.

    The cache is dropped if a state_dict is loaded or the module is moved or copied; a subclass that changes tensors
    otherwise calls :meth:`drop_cache`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drop_cache()
        self.register_load_state_dict_post_hook(lambda module, _: module.drop_cache())

    def drop_cache(self) -> None:
        """Forget what was made from the module's tensors; it is made again at the next use."""
        self._cache: Callable[..., tuple[Tensor, ...]] | None = None

    def __getstate__(self) -> dict[str, object]:
        # Traces and compiled code cannot be copied, and belong to the tensors of this module.
        return {**self.__dict__, '_cache': None}

    def _apply(self, *arguments: object, **options: object) -> nn.Module:
        self.drop_cache()
        return super()._apply(*arguments, **options)
