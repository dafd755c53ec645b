"""Calibration shared out over processes and a real Dask cluster: the same bytes, whatever happens to a worker."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import onnx
import pytest
from distributed import Client, LocalCluster

import quantlab
from quantlab import demo
from quantlab.errors import DataError, OptionError
from tests.data.data_specs import Ranging, Rewinding

IMAGES = demo.digits().train_images[:90]


def quantized(data, engine=None, **options):
    options = {"calibrate_method": "entropy", "per_channel": True, **options}
    return quantlab.quantize_static(demo.float_model(), None, data, engine=engine, **options).model.SerializeToString()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, image=IMAGES)
    return path


@pytest.fixture(scope="module")
def wanted(data):
    return quantized(data)


@pytest.fixture(scope="module")
def cluster():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("shards", [1, 2, 5, 200])
def test_threads(data, wanted, shards):
    with ThreadPoolExecutor(2) as pool:
        assert quantized(data, quantlab.Engine(executor=pool, shards=shards)) == wanted


def test_processes(data, wanted):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert quantized(data, quantlab.Engine(executor=pool, shards=3)) == wanted


def test_every_kind_of_data_that_can_be_read_by_number_can_be_sent(wanted):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        engine = quantlab.Engine(executor=pool, shards=2)
        assert quantized({"image": IMAGES}, engine) == wanted
        assert quantized([{"image": image[None]} for image in IMAGES], engine) == wanted


def test_a_dask_cluster(data, wanted, cluster):
    assert quantized(data, quantlab.Engine(executor=cluster.get_executor(), shards=4)) == wanted


def test_a_dask_worker_killed_in_the_middle(data, wanted, cluster, tmp_path):
    before = cluster.run(os.getpid)
    slow = Slow(path=data, mark=tmp_path / "killed")
    assert quantized(slow, quantlab.Engine(executor=cluster.get_executor(), shards=4)) == wanted
    killed = int((tmp_path / "killed").read_text())
    assert killed in before.values()
    assert killed not in cluster.run(os.getpid).values()


class Slow:
    """Samples by number; the process that first reads sample 50 is killed."""

    def __init__(self, path, mark):
        self.path, self.mark = path, mark

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        if index == 50:
            try:
                with self.mark.open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        with np.load(self.path) as archive:
            return {"image": archive["image"][index][None]}


def test_nan_names_the_sample_in_the_whole_data():
    text = '<ir_version: 8, opset_import: ["": 13]> g (float[1, 4] x) => (float[1, 4] y) { t = Sqrt(x) y = Sigmoid(t) }'
    model = onnx.parser.parse_model(text)
    samples = [{"x": np.full((1, 4), -1.0 if index == 7 else 1.0 + index, np.float32)} for index in range(12)]
    with ThreadPoolExecutor(2) as pool:
        engine = quantlab.Engine(executor=pool, shards=3)
        with pytest.raises(DataError, match="tensor 't' contains NaN in sample 7 although"):
            quantlab.quantize_static(model, None, samples, engine=engine)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_reader_that_can_be_set_to_a_part_is_shared_out(wanted, shards):
    reader = Ranging([{"image": image[None]} for image in IMAGES])
    with ThreadPoolExecutor(3) as pool:
        assert quantized(reader, quantlab.Engine(executor=pool, shards=shards)) == wanted
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert quantized(reader, quantlab.Engine(executor=pool, shards=shards)) == wanted


def test_a_reader_that_is_rewound_is_refused():
    reader = Rewinding([{"image": image[None]} for image in IMAGES])
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(DataError, match="each shard would rewind it for the others: give"),
    ):
        quantized(reader, quantlab.Engine(executor=pool, shards=2))


def test_messages(data):
    def once():
        yield from ({"image": image[None]} for image in IMAGES)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(DataError, match="data that can be read only once cannot be shared out over processes"):
            quantized(once(), quantlab.Engine(executor=pool, shards=2))
        with pytest.raises(OptionError, match="a checkpoint is for a single process: leave out the executor or the"):
            quantlab.Engine(executor=pool, checkpoint="c.npz")
        prepared = quantlab.prepare_for(quantlab.load(demo.float_model()))
        plan, recipe = quantlab.decide(prepared, quantlab.Recipe()), quantlab.Recipe()
        with pytest.raises(OptionError, match=r"an executor needs data made by quantlab\.batches"):
            quantlab.calibrate(prepared, plan, [], recipe, engine=quantlab.Engine(executor=pool))
