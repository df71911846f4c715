"""launch/k8s/train.yaml, by Kubernetes' own schemas and by what its parts have to say alike."""

import re
import signal

import kubernetes_validate
import pytest
import yaml

from began_jax import errors, processes
from tests.conftest import ROOT

DOCUMENTS = list(yaml.safe_load_all((ROOT / "launch/k8s/train.yaml").read_text(encoding="utf-8")))
SERVICE, JOB = DOCUMENTS
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ARGUMENTS = dict(argument.removeprefix("--").split("=") for argument in CONTAINER["args"])


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_the_manifest_is_valid_and_has_no_unknown_field(version):
    for document in DOCUMENTS:
        kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**JOB, "spec": {**JOB["spec"], "x": 1}}, version, strict=True)


def test_the_processes_find_each_other():
    num = int(ARGUMENTS["num_processes"])
    assert num == JOB["spec"]["completions"] == JOB["spec"]["parallelism"]
    assert JOB["spec"]["completionMode"] == "Indexed"
    job, service = JOB["metadata"]["name"], SERVICE["metadata"]["name"]
    (port,) = SERVICE["spec"]["ports"]
    assert ARGUMENTS["coordinator"] == f"{job}-0.{service}:{port['port']}"
    assert POD["subdomain"] == service
    assert SERVICE["spec"]["selector"] == {"job-name": job}
    assert '--process_id="$JOB_COMPLETION_INDEX"' in CONTAINER["command"][2]


def test_what_is_refused_ends_the_job_and_what_can_go_on_does():
    by_code = {
        code: rule["action"]
        for rule in JOB["spec"]["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", ())
    }
    assert by_code == {
        errors.UserError.exit_status: "FailJob",
        128 + signal.SIGTERM: "Ignore",
    }
    assert processes.Lost.exit_status not in by_code
    assert POD["restartPolicy"] == "Never"


def test_its_config_and_volumes_are_there():
    assert (ROOT / ARGUMENTS["config"]).is_file()
    mounts = {one["name"]: one["mountPath"] for one in CONTAINER["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in POD["volumes"]}
    assert re.match(mounts["shared"], ARGUMENTS["workdir"])
