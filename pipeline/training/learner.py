"""A network under training: what its recipe needs to take steps."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from pipeline.data.augmentation import Augmentation
from pipeline.settings.schema import Train
from pipeline.training import untouched_weights
from pipeline.training.batches import Images, plain_batches, steps_per_epoch, training_batches
from pipeline.training.compute import Hardware
from pipeline.training.distributed.processes import ALONE, Processes
from pipeline.training.losses import balanced_weights, make_loss
from pipeline.training.pretrained import keep_statistics
from pipeline.training.recipe import OPTIMIZERS, Schedule, parameter_groups
from pipeline.training.step import Step, make_step_function
from pipeline.training.weight_average import WeightAverage


class Learner:
    """Takes the steps of an epoch, as `settings` say.

    Args:
        model: the network, on `hardware.device`; it is trained in place.
        images: the split that is learnt from.
        settings: the recipe.
        hardware: where, and in which precision.
        processes: those that train `model` together.
        body: the names of parameters and buffers that hold pretrained weights.

    Raises:
        InputError: if the recipe can't be followed: a loss of one's own that isn't found, or a
            schedule of too few steps.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        settings: Train,
        hardware: Hardware,
        processes: Processes = ALONE,
        body: Collection[str] = (),
    ) -> None:
        class_weights = None
        if settings.class_weights == "balanced":
            class_weights = balanced_weights(images.labels, images.num_classes)
        self._loss_function = make_loss(settings, class_weights)
        self.average = WeightAverage(model, settings.ema) if settings.ema is not None else None
        if hardware.precision == "bf16" and hardware.device.type == "cpu":
            image, _ = next(plain_batches(images, 1))
            untouched_weights.zero_untouched_gradients(model, image)
        self._model = model
        self._images = images
        self._batch_size = settings.batch_size
        self._augmentation = Augmentation(**settings.augmentation.model_dump())
        self._settings = settings
        self._hardware = hardware
        self._processes = processes
        self._body = frozenset(body)
        parameters = parameter_groups(model, settings, self._body)
        self.optimizer = OPTIMIZERS[settings.optimizer](parameters, settings)
        self.schedule = Schedule(
            self.optimizer, settings, steps_per_epoch(images, settings.batch_size)
        )
        self._is_frozen = bool(self._body) and settings.freeze > 0
        self._prepare_steps()

    def _prepare_steps(self) -> None:
        """Set which parameters learn, and make what takes steps with these."""
        for name, parameter in self._model.named_parameters():
            if name in self._body:
                parameter.requires_grad_(not self._is_frozen)
        self._step = Step(
            self._model,
            self._processes.forward_pass(self._model),
            self.optimizer,
            self._loss_function,
            self._settings.l1,
            self._settings.clip_norm,
            self._hardware,
            self._processes,
        )
        self._take_step = make_step_function(self._step, self._settings)

    def epoch(self, seed: int, number: int) -> Iterator[int]:
        """Take the steps of an epoch, and yield after each how many images its batch had.

        Args:
            seed: of the order and the augmentation, with `number`.
            number: of the epoch, from 1.
        """
        if self._is_frozen and number > self._settings.freeze:
            self._is_frozen = False
            self._prepare_steps()
        self._model.train()
        if self._is_frozen:
            keep_statistics(self._model, self._body)
        for images, targets in training_batches(
            self._images, self._batch_size, self._augmentation, seed, number, self._processes.share
        ):
            size = self._take_step(images, targets)
            if self.average is not None:
                self.average.update()
            yield size
            self.schedule.after_step()

    def means(self) -> tuple[float, float]:
        """Return mean loss and accuracy of all images since the last call."""
        return self._step.means()
