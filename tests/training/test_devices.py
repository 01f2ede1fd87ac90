from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from mlic.errors import InputError
from mlic.training.devices import check_shared_output, with_processes

MakeConfig = Callable[..., DictConfig]


@pytest.fixture
def four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a torchrun on two nodes."""
    started = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)


def test_ddp_takes_the_processes_that_were_started(tiny_config: MakeConfig, four_processes: None):
    trainer = with_processes(tiny_config("trainer=ddp")).trainer
    assert (trainer.devices, trainer.num_nodes) == (2, 2)
    for other in ("trainer.devices=4", "trainer=cpu"):
        with pytest.raises(InputError, match=r"trainer\.devices=\d under torchrun: .*world size \(4\)"):
            with_processes(tiny_config("trainer=ddp", other))


def test_several_processes_need_a_named_folder(tiny_config: MakeConfig, four_processes: None):
    config = tiny_config("trainer=ddp")
    check_shared_output(config)
    config.output = "${hydra:runtime.output_dir}"
    with pytest.raises(InputError, match=r"output: 4 processes of one run need one run folder"):
        check_shared_output(config)


def test_without_a_starter_ddp_is_one_node(tiny_config: MakeConfig):
    assert with_processes(tiny_config("trainer=ddp")).trainer.num_nodes == 1
    assert OmegaConf.to_container(with_processes(tiny_config())) == OmegaConf.to_container(tiny_config())
    with pytest.raises(InputError, match=r"trainer\.num_nodes=2: .*torchrun --nnodes=2.*srun"):
        with_processes(tiny_config("trainer=ddp", "trainer.num_nodes=2"))
