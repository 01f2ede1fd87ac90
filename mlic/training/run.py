"""One training run: build the parts, fit the head, test the selected checkpoint, write the run folder."""

import logging
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from mlic.command_line import python
from mlic.data import MultiLabelDataModule
from mlic.errors import InputError
from mlic.evaluation.metrics import metrics_table
from mlic.features.extraction import ExtractionResult
from mlic.features.hashing import hash_files
from mlic.features.machine import describe_machine
from mlic.features.source import CachedFeatures
from mlic.inference.checkpoint import SavedRun, SeenImages, fingerprints, read_saved_run
from mlic.models import Backbone, MultiLabelClassifier, fit_standardization
from mlic.models.losses import check_loss
from mlic.models.ridge import ClosedFormFit
from mlic.models.weights import is_free
from mlic.runs.folder import RunFolder
from mlic.runs.lock import one_at_a_time
from mlic.runs.processes import broadcast_decision, find_processes
from mlic.runs.status import RunStatus
from mlic.runs.system_errors import translated_errors
from mlic.seeds import check_seed
from mlic.settings import check_options
from mlic.training.closed_form import (
    check_closed_form,
    fit_closed_form,
    is_closed_form,
    needs_epochs,
    save_closed_form,
    write_candidates,
)
from mlic.training.devices import check_shared_output, head_threads, with_processes
from mlic.training.near_duplicates import near_duplicates_in_train, set_grouping
from mlic.training.records import (
    complete_checkpoint,
    dataset_table,
    log_settings,
    tune_thresholds,
    write_dataset,
    write_model,
    write_results,
)
from mlic.training.resuming import (
    EarlierRun,
    features_dir,
    find_earlier_run,
    hash_index,
    prepare_folder,
    with_output,
)
from mlic.training.starting_point import refuse_own_output, start_from
from mlic.training.trainer import (
    best_checkpoint,
    make_bare_trainer,
    make_trainer,
    prepare_checkpoints,
    quieten_lightning,
)

logger = logging.getLogger(__name__)

EXTRACTION_TRAINER_KEYS = ("accelerator", "devices", "num_nodes", "strategy")

Results = dict[str, dict[str, Any]]


@translated_errors()
@one_at_a_time
def run(config: DictConfig, before_start: Callable[[MultiLabelDataModule], None] | None = None) -> Results:
    """Train and test a run.

    Args:
        config: config composed from `conf/train.yaml`; `config.output` is the run folder.
        before_start: called in the first process when all checks have passed, before anything is replaced, with the
            data module after `setup`; its error ends the run. Not called for a run that is already finished.

    Returns:
        The content of metrics.json: metrics of the selected checkpoint on `train`, `val` and `test`.

    Raises:
        InputError: data, weights or settings cannot be used; status.json contains the error.
    """
    config = with_processes(with_output(config))
    check_shared_output(config)
    earlier = broadcast_decision(lambda: find_earlier_run(config))
    if earlier.results is not None:
        logger.info("already finished, skipped: %s", config.output)
        return earlier.results
    refuse_own_output("init_from", config.init_from, config.output)
    refuse_own_output("data.split.keep", config.data.split.get("keep"), config.output)
    folder = RunFolder(config.output)
    quieten_lightning()
    # an earlier run in the folder is not changed until all checks have passed
    is_new = rank_zero_only.rank == 0 and not folder.has_results()
    with RunStatus(folder, write=is_new, seconds=earlier.seconds) as status:
        check_options(config)
        trainer = make_trainer(config, earlier)
        datamodule, backbone, model, fit = _prepare_run(config, earlier, trainer, status)
        if trainer.is_global_zero:
            if before_start is not None:
                before_start(datamodule)
            status.start()
            prepare_folder(config, folder, earlier)
            with status.phase("records"):
                if earlier.checkpoint is None:
                    write_dataset(folder, datamodule, near_duplicates=near_duplicates_in_train(datamodule))
                    timing = getattr(datamodule.features, "timing", {})  # of stored features
                    write_model(folder, backbone, model.head, config.model.name, timing)
                log_settings(config, trainer.loggers)
        if needs_epochs(model.head):
            threads = head_threads(
                model, backbone.feature_shape, datamodule.batch_size, trainer.strategy.root_device
            )
            with status.phase("fit"), threads:
                trainer.fit(model, datamodule, ckpt_path=earlier.checkpoint, weights_only=True)
        with status.phase("test"):
            _test(trainer, model, datamodule)
            thresholds = tune_thresholds(model)
        best = best_checkpoint(trainer) if needs_epochs(model.head) else save_closed_form(trainer, folder)
        if trainer.is_global_zero:
            with status.phase("records"):
                if fit is not None:
                    write_candidates(folder, trainer, fit)
                if best is not None:
                    weights = datamodule.class_weights.tolist()
                    complete_checkpoint(
                        best, thresholds=thresholds, class_weights=weights, precision=backbone.precision
                    )
                write_results(folder, model, thresholds, datamodule, config, trainer.loggers)
            logger.info("%s\nrun folder: %s", metrics_table(model.results), folder.path)
            use = f"mlic.predict run={shlex.quote(str(folder.path))} images=photos output=predictions.csv"
            logger.info("to use it:  %s -m %s", python(), use)
    return model.results


def _prepare_run(
    config: DictConfig, earlier: EarlierRun, trainer: L.Trainer, status: RunStatus
) -> tuple[MultiLabelDataModule, Backbone, MultiLabelClassifier, ClosedFormFit | None]:
    """Do all that can fail before anything is replaced: read data and features, build and initialise the model."""
    device = trainer.strategy.root_device
    start = read_saved_run(config.init_from) if config.init_from and earlier.checkpoint is None else None
    status.content["machine"] = describe_machine(device)
    datamodule, backbone = _read_data(config, trainer, status.phase)
    with status.phase("features"):
        datamodule.setup()
    logger.info("%s", dataset_table(datamodule))
    # again: how many numbers were drawn so far depends on what features were found
    seed_generators(config)
    model = make_model(config, backbone, datamodule)
    if is_closed_form(model.head):
        check_closed_form(model, datamodule, config.init_from)
    _check_training(trainer, model, datamodule)
    with status.phase("fit"):
        if earlier.checkpoint is None:
            set_first_weights(trainer, model, backbone, datamodule, start)
        # also of a resumed run, for the scores that it does not store before its end
        fit = fit_closed_form(model, datamodule, device) if is_closed_form(model.head) else None
    return datamodule, backbone, model, fit


@translated_errors()
def extract(config: DictConfig) -> ExtractionResult:
    """Compute the features that a run with this config would need.

    Args:
        config: see `run`.

    Returns:
        The result of the extraction.

    Raises:
        InputError: see `run`; or `features=live` is set.
    """
    features: Any = prepare_features(config).features
    return features.result


def prepare_features(config: DictConfig) -> MultiLabelDataModule:
    """Compute the features of a data set without splitting it.

    Args:
        config: `seed`, `data`, `model`, `features` and `trainer`; see `run`.

    Returns:
        The data module with `table` and `features`.

    Raises:
        InputError: see `run`; or `features=live` is set.
    """
    if config.features.mode != "cached":
        raise InputError("features=live does not store features: extract with features=cached.")
    datamodule, _ = _read_without_run(config)
    datamodule.extract()
    return datamodule


@translated_errors()
def prepare(config: DictConfig) -> tuple[MultiLabelDataModule, Backbone]:
    """Prepare data and backbone for a search.

    Args:
        config: see `run`.

    Returns:
        The data module after `setup`, and the backbone.

    Raises:
        InputError: see `run`.
    """
    if find_processes().count > 1:
        raise InputError("a search trains its trials in one process: start it without torchrun or srun.")
    datamodule, backbone = _read_without_run(config)
    datamodule.setup()
    logger.info("%s", dataset_table(datamodule))
    return datamodule, backbone


def _read_without_run(config: DictConfig) -> tuple[MultiLabelDataModule, Backbone]:
    quieten_lightning()
    config = with_processes(config)
    check_options(config)
    return _read_data(config, make_bare_trainer(config))


def _read_data(
    config: DictConfig,
    trainer: L.Trainer,
    phase: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> tuple[MultiLabelDataModule, Backbone]:
    """Load the backbone and read the data; `phase` measures the seconds of both."""
    seed_generators(config)
    with phase("backbone"):
        backbone = _make_backbone(config, trainer)
    with phase("data"):
        datamodule = _make_datamodule(config, backbone, trainer)
        datamodule.read()
    return datamodule, backbone


def seed_generators(config: DictConfig) -> None:
    """Seed the generators of Python, NumPy and torch, as before the model of a run is built."""
    L.seed_everything(check_seed("seed", config.seed), workers=True, verbose=False)


def _make_backbone(config: DictConfig, trainer: L.Trainer) -> Backbone:
    backbone: Backbone = instantiate(config.model.backbone)
    if backbone.trained_stages and config.features.mode == "cached":
        raise InputError(
            f"model.backbone.unfreeze={config.model.backbone.unfreeze} trains the backbone, so that features change "
            "at each step: set features=live or features=augmented."
        )
    for member in backbone.members:
        if member.weights_license is not None and not is_free(member.weights_license):
            logger.warning(
                "the weights of %s have the licence '%s', which may restrict their use: see https://huggingface.co/timm/%s",
                member.name,
                member.weights_license,
                member.name,
            )
    return backbone.optimize_for(trainer.strategy.root_device)


def _make_datamodule(config: DictConfig, backbone: Backbone, trainer: L.Trainer) -> MultiLabelDataModule:
    datamodule: MultiLabelDataModule = instantiate(config.data)
    datamodule.transform, datamodule.resize_size = backbone.transform, backbone.resize_size
    # only in one process, because hashing in all of them would only multiply the reading
    datamodule.hash_images = lambda paths: broadcast_decision(
        lambda: hash_files(paths, hash_index(config)).digests
    )
    options: Any
    if config.features.mode == "cached":
        options = OmegaConf.to_container(config.features)
        del options["mode"], options["dir"]
        datamodule.features = CachedFeatures(
            backbone,
            directory=features_dir(config),
            device=trainer.strategy.root_device,
            draft_size=datamodule.draft_size,
            bits_stored=datamodule.bits_stored,
            trainer={key: config.trainer[key] for key in EXTRACTION_TRAINER_KEYS if key in config.trainer},
            **options,
        )
    elif config.features.augment is not None:
        options = OmegaConf.to_container(config.features.augment)
        datamodule.augmentation = backbone.augmentation(**options)
    set_grouping(datamodule)
    return datamodule


def make_model(
    config: DictConfig, backbone: Backbone, datamodule: MultiLabelDataModule
) -> MultiLabelClassifier:
    """Build the model of a run with random weights.

    Args:
        config: config of the run.
        backbone: backbone of the features.
        datamodule: data module after `setup`.

    Raises:
        InputError: the loss cannot be used with unknown labels.
    """
    classes = datamodule.table.classes
    plain: Any = OmegaConf.to_container(config, resolve=True)
    loss = instantiate(config.loss)(datamodule.class_weights)
    check_loss(loss, datamodule.table.labels)
    model = MultiLabelClassifier(
        head=instantiate(config.head)(backbone.feature_shape, len(classes)),
        loss=loss,
        optimizer=instantiate(config.optimizer),
        classes=classes,
        backbone=None if datamodule.features is not None else backbone,
        scheduler=instantiate(config.get("scheduler")),
        seed=config.seed,
        checkpoint_info={
            "classes": list(classes),
            **backbone.provenance,
            "split_hash": datamodule.split_hash,
            "config": {"model": plain["model"], "head": plain["head"]},
        },
    )
    model.save_hyperparameters({"config": plain}, logger=False)
    return model


def _check_training(
    trainer: L.Trainer, model: MultiLabelClassifier, datamodule: MultiLabelDataModule
) -> None:
    """Create what Lightning creates at the start of training, so that invalid settings fail early."""
    prepare_checkpoints(trainer, has_val="val" in datamodule.parts)
    if not needs_epochs(model.head):
        return
    optimizer, epochs = model.make_optimizer(), trainer.max_epochs or 0
    if model.scheduler is not None:
        steps = len(datamodule.loader("train", training=True)) * epochs if epochs > 0 else inf
        model.scheduler(optimizer, total_steps=steps)


def set_first_weights(
    trainer: L.Trainer,
    model: MultiLabelClassifier,
    backbone: Backbone,
    datamodule: MultiLabelDataModule,
    start: SavedRun | None,
) -> None:
    """Set the initial weights: those of another run, or random ones with the statistics of the features.

    Args:
        trainer: trainer of the run, for its device.
        model: model of the run.
        backbone: backbone of the features.
        datamodule: data module after `setup`.
        start: run from whose weights this one starts; None for random ones.
    """
    split, own = datamodule.split, fingerprints(datamodule.digests)
    seen = SeenImages(own[split.train], own[split.val])
    if start is not None:
        seen = seen.join(start_from(start, model, backbone, datamodule))
    elif needs_epochs(model.head):
        # a live backbone processes the training part once for this
        device = trainer.strategy.root_device
        model.to(device)
        batches = datamodule.loader("train")
        fit_standardization(model.head, (model.features(batch[0].to(device)) for batch in batches))
    model.seen = seen.plain()


def _test(trainer: L.Trainer, model: MultiLabelClassifier, datamodule: MultiLabelDataModule) -> None:
    best = best_checkpoint(trainer)
    model.expect_test_parts(datamodule.parts)
    trainer.test(
        model,
        datamodule.test_dataloader(),
        ckpt_path=best,
        weights_only=True if best else None,
        verbose=False,
    )
