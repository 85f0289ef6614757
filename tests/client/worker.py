"""A stand-in for the engine, working beside a test."""

import threading
import time

from PIL import Image
from tests.api.service import Service

from accentor.spec import Failure


def pixel(image: Image.Image) -> object:
    return image.getpixel((0, 0))


class Worker(threading.Thread):
    """Runs the jobs of the newest batch, one by one, as soon as there is one."""

    def __init__(self, service: Service, *order: int, failing: frozenset[int] = frozenset()) -> None:
        super().__init__(name="worker of the test")
        self.service, self.order, self.failing = service, order, failing

    def run(self) -> None:
        while not (found := self.service.jobs.recent(1)):
            time.sleep(0.02)
        for index in self.order:
            if index in self.failing:
                self.service.fail(found[0].id, index, Failure(code="not-finite", detail="NaN at step 3"))
            else:
                self.service.run(found[0].id, index)
            time.sleep(0.05)
