"""What crystals' models do not have is refused by name."""

import pytest

from deeph_zero.cli.crystals import check_evaluating, check_predicting
from deeph_zero.errors import InputError
from deeph_zero.settings.config import PredictConfig
from deeph_zero.settings.evaluate_config import EvaluateConfig

CARD = {"runtime": {"device": "cuda:1"}}


def test_a_card_is_refused_with_what_was_asked():
    line = "--device: expected cpu with crystals, got cuda:1"
    with pytest.raises(InputError, match=line):
        check_evaluating(EvaluateConfig.parse(CARD))
    with pytest.raises(InputError, match=line):
        check_predicting(PredictConfig.parse(CARD), crystals=True)
    check_predicting(PredictConfig.parse(CARD), crystals=False)
    check_evaluating(EvaluateConfig.parse({}))
