"""Gates against rows decided one by one, their histograms, and gates as a person writes them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.activity import SALIENT_STEP_S, level_curve, salient_segments
from curation.gates import GATES, MEASURES, Gate, GateReport, apply_gates, parse_gate, parse_gates
from curation.measures import Measures, measure
from manifests.errors import RecipeError, TableError
from tests.synthesis import pink_noise, tone

LONG = pd.DataFrame(
    {
        "song_id": ["a", "a", "b", "b"],
        "stem": ["vocals", "drums", "vocals", "drums"],
        "rms": [0.2, 0.001, 0.001, 0.3],
        "dc_offset": [0.0, 0.02, 0.0, 0.0],
    },
    index=[10, 11, 12, 13],
)

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
gates = st.builds(
    lambda measure, stem, limit, is_minimum: Gate(measure, stem, **{"minimum" if is_minimum else "maximum": limit}),
    st.sampled_from(["rms", "peak", "loudness_lufs"]),
    st.sampled_from([None, "vocals", "drums", "*"]),
    numbers,
    st.booleans(),
)


class TestWriting:
    @pytest.mark.parametrize(
        ("text", "gate"),
        [
            ("vocals.rms >= 0.01", Gate("rms", "vocals", minimum=0.01)),
            ("mixture.clipped_fraction <= 0.001", Gate("clipped_fraction", "mixture", maximum=0.001)),
            ("*.dc_offset <= 0.01", Gate("dc_offset", "*", maximum=0.01)),
            ("salient_fraction>=6e-1", Gate("salient_fraction", minimum=0.6)),
            ("  lead.vocals.peak<=.5 ", Gate("peak", "lead.vocals", maximum=0.5)),
            ("mixture.loudness_lufs ≥ -30", Gate("loudness_lufs", "mixture", minimum=-30)),
            ("drums.bandwidth_hz ≤ 20000", Gate("bandwidth_hz", "drums", maximum=20_000)),
        ],
    )
    def test_is_read(self, text: str, gate: Gate) -> None:
        assert parse_gate(text) == gate

    @given(gates)
    def test_of_any_gate_reads_back_equal(self, gate: Gate) -> None:
        assert parse_gate(str(gate)) == gate

    def test_is_short(self) -> None:
        assert [str(gate) for gate in GATES["cdxdb23"]] == [
            "dialogue.rms >= 0.022",
            "effects.rms >= 0.005",
            "music.rms >= 0.003",
        ]

    def test_may_list_names_and_gates(self) -> None:
        found = parse_gates(["cdxdb23", "vocals.rms >= 0.01", "music.rms >= 0.003"])
        assert found == (*GATES["cdxdb23"], Gate("rms", "vocals", minimum=0.01))
        assert parse_gates([]) == ()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "cdxdb",
                r"gate 'cdxdb' \(did you mean 'cdxdb23'\?\): expected 'STEM.MEASURE >= NUMBER'.*or one of cdx",
            ),
            (
                "vocals.rms",
                r"gate 'vocals.rms': expected 'STEM.MEASURE >= NUMBER' or '<=', such as 'vocals.rms >= ",
            ),
            ("vocals.rms > 0.1", "gate 'vocals.rms > 0.1': expected"),
            ("vocals.rms = 0.1", "expected"),
            ("0.1 <= vocals.rms", "gate '0.1 <= vocals.rms': expected 'STEM.MEASURE >= NUMBER'"),
            ("", "gate '': expected"),
            ("vocals.rsm >= 0.1", r"measure 'rsm' is not known \(did you mean 'rms'\?\); measures are num_frames"),
            ("vocals.clipped <= 0.1", r"did you mean 'clipped_fraction'\?"),
            ("vocals.xyz >= 0.1", "measure 'xyz' is not known; measures are"),
            ("vocals.rms >= 0,1", "gate 'vocals.rms >= 0,1': '0,1' is no number"),
            ("vocals.rms >=", "'' is no number"),
            ("vocals.rms >= nan", "gate on 'vocals.rms': minimum is nan, maximum None; give one finite number"),
            ("vocals.rms >= 0.1 <= 0.2", "'0.1 <= 0.2' is no number"),
        ],
    )
    def test_that_is_wrong_is_answered_with_what_is_right(self, text: str, message: str) -> None:
        with pytest.raises(RecipeError, match=message):
            parse_gates([text])

    def test_may_name_other_measures_when_told(self) -> None:
        assert parse_gate("lag >= 1", measures=["lag"]) == Gate("lag", minimum=1)
        with pytest.raises(RecipeError, match=r"measures are lag$"):
            parse_gate("vocals.rms >= 1", measures=["lag"])

    def test_of_one_gate_is_no_list(self) -> None:
        with pytest.raises(ValueError, match="expected several"):
            parse_gates("bsrnn")

    def test_knows_every_measure_of_a_stem_and_of_the_presets(self) -> None:
        assert set(Measures.__dataclass_fields__) <= set(MEASURES)
        assert {gate.measure for preset in GATES.values() for gate in preset} <= set(MEASURES)


class TestGate:
    @pytest.mark.parametrize(
        "limits", [{}, {"minimum": 0.1, "maximum": 0.2}, {"minimum": math.inf}, {"maximum": math.nan}]
    )
    def test_has_one_finite_limit(self, limits: dict[str, float]) -> None:
        with pytest.raises(RecipeError, match=r"gate on 'vocals\.rms': .*give one finite number"):
            Gate("rms", "vocals", **limits)

    def test_lets_its_limit_pass_and_no_null(self) -> None:
        values = np.array([0.1, 0.2, 0.3, math.nan])
        assert Gate("rms", minimum=0.2).passes(values).tolist() == [False, True, True, False]
        assert Gate("rms", maximum=0.2).passes(values).tolist() == [True, True, False, False]


class TestTables:
    def test_that_are_long_have_a_row_per_stem(self) -> None:
        gated = apply_gates(LONG, parse_gates(["vocals.rms >= 0.01", "*.dc_offset <= 0.01"]))
        assert gated.kept.to_dict() == {10: True, 11: False, 12: False, 13: True}
        assert gated.reasons.dropna().to_dict() == {
            11: '["*.dc_offset above 0.01"]',
            12: '["vocals.rms below 0.01"]',
        }
        assert [(r.kept, r.dropped, r.unknown) for r in gated.reports] == [(1, 1, 0), (3, 1, 0)]

    def test_that_are_wide_have_a_column_per_stem(self) -> None:
        wide = LONG.pivot(index="song_id", columns="stem", values=["rms", "dc_offset"])
        wide.columns = ["_".join(names) for names in wide.columns]
        gated = apply_gates(wide, parse_gates(["vocals.rms >= 0.01", "*.dc_offset <= 0.01"]))
        assert gated.kept.to_dict() == {"a": False, "b": False}
        assert gated.reasons.to_dict() == {"a": '["*.dc_offset above 0.01"]', "b": '["vocals.rms below 0.01"]'}
        vocals, offsets = gated.reports
        assert (vocals.kept, vocals.dropped, offsets.kept, offsets.dropped) == (1, 1, 1, 1)
        assert (vocals.counts.sum(), offsets.counts.sum()) == (2, 4)

    def test_without_a_value_do_not_pass(self) -> None:
        table = pd.DataFrame({"rms": pd.array([0.5, None, 0.01], dtype="Float64")})
        gated = apply_gates(table, [Gate("rms", minimum=0.1)])
        assert gated.kept.tolist() == [True, False, False]
        assert gated.reasons.tolist()[1:] == ['["rms unknown"]', '["rms below 0.1"]']
        assert (gated.reports[0].kept, gated.reports[0].dropped, gated.reports[0].unknown) == (1, 2, 1)
        assert gated.reports[0].counts.sum() == 2

    def test_without_gates_are_kept_whole(self) -> None:
        gated = apply_gates(LONG, [])
        assert gated.kept.all()
        assert gated.reasons.isna().all()
        assert gated.reports == ()

    def test_without_rows_have_empty_reports(self) -> None:
        gated = apply_gates(LONG.iloc[:0], [Gate("rms", "vocals", minimum=0.1)])
        assert len(gated.kept) == len(gated.reasons) == 0
        assert gated.reports[0].edges.size == gated.reports[0].counts.size == 0

    @settings(deadline=None)
    @given(
        st.lists(st.lists(st.none() | numbers, min_size=3, max_size=3), max_size=10),
        st.lists(gates, max_size=4),
    )
    def test_are_decided_row_by_row(self, rows: list[list[float | None]], chosen: list[Gate]) -> None:
        stems = ["vocals", "drums", "bass"]
        names = ["rms", "peak", "loudness_lufs"]
        values = {
            f"{name}_{stem}": [row[(i + j) % 3] for row in rows]
            for i, name in enumerate(names)
            for j, stem in enumerate(stems)
        }
        wide = pd.DataFrame(
            {key: pd.Series(column, dtype=float) for key, column in values.items()}
            | {name: pd.Series(values[f"{name}_bass"], dtype=float) for name in names}
        )
        gated = apply_gates(wide, chosen)
        for at in range(len(rows)):
            reasons = []
            for gate in chosen:
                of = {None: [gate.measure], "*": [f"{gate.measure}_{stem}" for stem in stems]}
                found = [wide[key][at] for key in of.get(gate.stem, [f"{gate.measure}_{gate.stem}"])]
                low, high = gate.minimum, gate.maximum
                if any(v < low if low is not None else high is not None and v > high for v in found):
                    reasons.append(gate.reason)
                if any(math.isnan(v) for v in found):
                    reasons.append(f"{gate.name} unknown")
            assert gated.kept[at] == (not reasons)
            assert json.loads(gated.reasons[at]) == reasons if reasons else pd.isna(gated.reasons[at])

    @pytest.mark.parametrize(
        ("table", "gate", "message"),
        [
            (
                LONG,
                "vocals.peak >= 0.1",
                r"gate on 'vocals.peak': the table has no column 'peak'; measure it first",
            ),
            (
                LONG,
                "vocal.rms >= 0.1",
                r"no row has stem 'vocal' \(did you mean 'vocals'\?\); stems are drums, voc",
            ),
            (LONG.drop(columns="stem"), "vocals.rms >= 0.1", "no column 'rms_vocals'"),
            (LONG.drop(columns="stem"), "*.rms >= 0.1", "no column 'rms_STEM' of any stem"),
            (LONG.assign(rms="loud"), "*.rms >= 0.1", "column 'rms' is str, expected numbers"),
            (LONG.assign(rms=True), "*.rms >= 0.1", "column 'rms' is bool, expected numbers"),
            (LONG.assign(rms=[0, 0, -math.inf, 0]), "*.rms >= 0.1", "column 'rms' is -inf in row 2; write null"),
        ],
    )
    def test_that_do_not_fit_are_refused(self, table: pd.DataFrame, gate: str, message: str) -> None:
        with pytest.raises(TableError, match=message):
            apply_gates(table, [parse_gate(gate)])


def in_bin(report: GateReport, value: float) -> int:
    """Number of the bin that a value is shown in, by a search from the left."""
    edges = report.edges
    for at in range(len(edges) - 1):
        low = value > edges[at] or (value == edges[at] and (report.gate.minimum is not None or at == 0))
        high = value < edges[at + 1] or (value == edges[at + 1] and report.gate.minimum is None)
        if low and high:
            return at
    return 0 if value < edges[0] else len(edges) - 2


class TestReports:
    @settings(deadline=None)
    @given(st.lists(numbers, min_size=1, max_size=30), gates.filter(lambda gate: gate.stem is None))
    @example([-999999.9999999999], Gate("rms", maximum=-1e6))
    @example([1.0000000000000002], Gate("rms", minimum=1.0))
    @example([1e-300], Gate("rms", minimum=0.0))
    def test_hold_the_distribution_and_the_cut(self, values: list[float], gate: Gate) -> None:
        report = apply_gates(pd.DataFrame({gate.measure: values}), [gate]).reports[0]
        assert report.threshold in report.edges
        assert (np.diff(report.edges) > 0).all()
        assert report.counts.sum() == len(values) == report.kept + report.dropped
        cut = int(np.flatnonzero(report.edges == report.threshold)[0])
        above, below = int(report.counts[cut:].sum()), int(report.counts[:cut].sum())
        passing, failing = (above, below) if gate.minimum is not None else (below, above)
        assert (passing, failing) == (report.kept, report.dropped)
        expected = np.bincount([in_bin(report, value) for value in values], minlength=len(report.counts))
        assert report.counts.tolist() == expected.tolist()

    def test_of_levels_are_logarithmic(self) -> None:
        values = 10 ** np.random.default_rng(0).uniform(-4, 0, 1000)
        report = apply_gates(pd.DataFrame({"rms": values}), [Gate("rms", minimum=0.01)]).reports[0]
        ratios = report.edges[1:] / report.edges[:-1]
        assert ratios == pytest.approx(10 ** (4 / 50), rel=0.03)
        assert (report.counts > 5).all()

    def test_of_values_that_are_all_equal_have_bins_around_them(self) -> None:
        for value in (0.0, 0.5, 1.0):
            report = apply_gates(pd.DataFrame({"peak": [value] * 3}), [Gate("peak", maximum=0.5)]).reports[0]
            assert report.counts.sum() == 3


class TestPresets:
    def test_of_cdxdb23_are_the_papers(self) -> None:
        limits = {(gate.stem, gate.measure): gate.minimum for gate in GATES["cdxdb23"]}
        assert limits == {("dialogue", "rms"): 0.022, ("effects", "rms"): 0.005, ("music", "rms"): 0.003}

    @pytest.mark.parametrize(("gain", "kept"), [(1.01, True), (0.99, False)])
    def test_of_cdxdb23_cut_where_a_sine_of_known_rms_says(self, gain: float, kept: bool) -> None:
        # A sine of amplitude A in both channels has the RMS A.
        row: dict[str, Any] = {}
        for stem, level in (("dialogue", 0.022), ("effects", 0.005), ("music", 0.003)):
            audio = tone(440.0, 11 * 8000, 8000, amplitude=level * (gain if stem == "effects" else 2.0))
            row[f"rms_{stem}"] = measure([audio], 8000).rms
        assert apply_gates(pd.DataFrame([row]), GATES["cdxdb23"]).kept.tolist() == [kept]

    def test_of_bsrnn_keep_the_salient_segments(self) -> None:
        rng = np.random.default_rng(0)
        audio = np.hstack([pink_noise(rng, 2, 2500, rms=level) for level in rng.choice([0.0, 0.1], 40)])
        salience = salient_segments(level_curve([audio], 4000, step_s=SALIENT_STEP_S))
        assert 0 < salience.salient.sum() < len(salience.salient)
        gated = apply_gates(pd.DataFrame({"salient_fraction": salience.fractions}), GATES["bsrnn"])
        assert gated.kept.tolist() == salience.salient.tolist()
