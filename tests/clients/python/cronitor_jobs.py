"""Jobs that send telemetry through cronitor, whose address can only be replaced in its code.

usage: cronitor_jobs.py BASE_URL KEY
"""

import json
import sys

import cronitor


def main(base_url: str, key: str) -> None:
    cronitor.api_key = key
    cronitor.Monitor._ping_api_url = lambda self: f"{base_url}/p/{self.api_key}/{self.key}"
    told = {}

    @cronitor.job("cronitor copies")
    def copy() -> dict[str, int]:
        return {"files": 7}

    @cronitor.job("cronitor fails", env="staging")
    def fail() -> None:
        raise RuntimeError("no tape, größer als gestern & mehr")

    told["returned"] = copy()
    try:
        fail()
    except RuntimeError as error:
        told["raised"] = str(error)
    heartbeat = cronitor.Monitor("cronitor heartbeat")
    answers = [heartbeat.ping(message="alive", metrics={"count": 3, "error_count": 0}), heartbeat.ping(state="ok")]
    told["answers"] = [(answer.status_code, answer.text) for answer in answers]
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
