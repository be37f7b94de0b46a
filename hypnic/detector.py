"""The detector: samples in, events out, in pieces of any size.

Every partition of the same samples, and every save and restore between them, gives the same rows to the byte.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

import hypnic
from hypnic import layout as at
from hypnic.chunk import ArraySource, Source, as_xyz, check_rate, check_site
from hypnic.errors import DataError, UsageError
from hypnic.events import COLUMNS, EVENT_DTYPE, LABELS, RESTS, Events
from hypnic.filters import highpass, lowpass, pole
from hypnic.model import load_model, load_waking
from hypnic.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from hypnic.reference import Comparison

__all__ = ["Detector", "Levels", "detect", "detect_rows", "emissions", "event_rows"]

_MAGIC: Final = b"hypnic-state\n"

_LONGEST_GAP: Final = 10**12
"""Samples: 30 years at 1000 Hz."""

_ROW_COLUMNS: Final = {
    "score": at.R_SCORE,
    "peak_g": at.R_PEAK,
    "prominence": at.R_PROMINENCE,
    "rise": at.R_RISE,
    "t90": at.R_T90,
    "hf_ratio": at.R_HF,
    "angle_change": at.R_ANGLE,
    "quiet_before": at.R_QUIET,
    "interval": at.R_INTERVAL,
    "sample": at.R_ONSET,
    "id": at.R_ID,
    "revision": at.R_REVISION,
}


class Levels(NamedTuple):
    """What decides whether an event opens: band energy against its background (see `Detector.levels`).

    Attributes
    ----------
    energy : ndarray of float64, shape (n,)
        Smoothed band energy (g squared, over three axes) at the end of each of the newest blocks of about 0.1 s;
        on a mattress weighed by direction.
    samples : ndarray of int64, shape (n,)
        Number of the sample after each block; across a loss so short that the filters ran on, off by it.
    background : float
        Its running median, g squared; NaN while it is not known.
    threshold : float
        Energy above which an event opens, g squared; infinite while the background is not known.
    open : bool
        Whether an event is under way.
    """

    energy: NDArray[np.float64]
    samples: NDArray[np.int64]
    background: float
    threshold: float
    open: bool


class Detector:
    """Finds candidate hypnic jerks in a stream of acceleration.

    Parameters
    ----------
    rate : float
        Sampling rate in Hz, 25 to 1000.
    site : {"wrist", "mattress"}
        Where the sensor is.
    settings : Settings, optional
        Thresholds; by default the preset of the site.
    reference : bool or {"bed", "limb"}, optional
        Whether a second sensor is sampled together with this one: on the bed (its frame, the partner's side;
        True means this), or on another limb. What it feels first or more is no jerk: see `hypnic.reference`.

    Raises
    ------
    UsageError
        If the rate, the site or the reference is not supported.

    Examples
    --------
    >>> import numpy as np
    >>> detector = Detector(rate=100.0)
    >>> still = np.tile([0.0, 0.0, 1.0], (1000, 1))
    >>> len(detector.push(still)), len(detector.flush())
    (0, 0)
    """

    def __init__(
        self,
        rate: float,
        site: str = "wrist",
        settings: Settings | None = None,
        reference: bool | str = False,
    ) -> None:
        self._rate = check_rate(rate)
        self._site = check_site(site)
        self._settings = Settings.preset(self._site) if settings is None else settings
        self._floats, self._integers = _state(self._rate, self._settings)
        self._fresh = self._floats.copy(), self._integers.copy()
        self._turns: list[tuple[int, int]] = []
        # numba takes most of a second to import: only who detects pays for it.
        from hypnic import kernel

        self._run = kernel.run
        self._finish = kernel.finish
        self._reference: Comparison | None = None
        if reference is not False:
            from hypnic import reference as second

            place = second.check_reference(reference, self._site)
            self._reference = second.Comparison(self._rate, self._settings, place)

    @property
    def rate(self) -> float:
        """Sampling rate in Hz."""
        return self._rate

    @property
    def site(self) -> str:
        """Where the sensor is."""
        return self._site

    @property
    def settings(self) -> Settings:
        """The thresholds in use."""
        return self._settings

    @property
    def rest(self) -> str:
        """Rest state at the newest sample: awake, settling, onset, still or off."""
        return RESTS[self._integers[at.I_REST]]

    @property
    def index(self) -> int:
        """Number of the next sample, lost ones counted."""
        return int(self._integers[at.I_INDEX] + self._integers[at.I_GAP])

    @property
    def counts(self) -> dict[str, int]:
        """What happened to the samples so far.

        ``received`` were used. ``missing`` were not: told by `gap`, ``invalid`` (NaN, infinite or beyond any
        sensor's range) or ``stuck`` (held constant for longer than the sensor's own coarseness explains).
        """
        counts = self._integers
        return {
            "received": int(counts[at.I_RECEIVED]),
            "missing": int(counts[at.I_MISSING] + counts[at.I_GAP]),
            "invalid": int(counts[at.I_INVALID]),
            "stuck": int(counts[at.I_STUCK]),
        }

    @property
    def meta(self) -> dict[str, Any]:
        """How the events are made: version, rate, site, settings."""
        facts = {
            "hypnic_version": hypnic.__version__,
            "rate": self._rate,
            "site": self._site,
            "settings": self._settings.to_dict(),
        }
        return facts if self._reference is None else facts | {"reference": self._reference.place}

    @property
    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The two arrays of the state (`hypnic.layout`), to look at: they change with every sample."""
        floats, integers = self._floats.view(), self._integers.view()
        floats.flags.writeable = integers.flags.writeable = False
        return floats, integers

    def push(self, xyz: ArrayLike, reference: ArrayLike | None = None) -> Events:
        """Take in the next samples.

        Parameters
        ----------
        xyz : array_like, shape (n, 3)
            Acceleration in g, gravity included; any n, none and one included.
        reference : array_like, shape (n, 3), optional
            What the reference felt meanwhile, in g, NaN where that is unknown; all of it by default.

        Returns
        -------
        Events
            The rows that these samples brought out: a provisional row (revision 0) soon after an event ends,
            its final row (revision 1) some seconds later, further revisions where a series shows only then.

        Raises
        ------
        DataError
            If the shape is another, or the values are not real numbers.
        UsageError
            If there are samples of a reference that the detector was not told of.
        """
        return self._table(self.push_rows(xyz, reference))

    def push_rows(self, xyz: ArrayLike, reference: ArrayLike | None = None) -> NDArray[np.float64]:
        """Take in samples as `push` does and return the kernel's own rows (see `hypnic.layout`)."""
        samples = as_xyz(xyz)
        if self._reference is not None:
            return self._compared(self._reference, samples, reference)
        if reference is not None:
            raise UsageError(
                "samples of a reference need a detector that knows of it: Detector(reference=True)"
            )
        return self._taken(samples)

    def _compared(
        self, comparison: Comparison, samples: NDArray[np.float32], reference: ArrayLike | None
    ) -> NDArray[np.float64]:
        """Take in samples of both sensors and return rows that the reference has corrected."""
        from hypnic.reference import paired

        other = paired(reference, samples)
        rows = []
        for start in range(0, max(len(samples), 1), comparison.slice):
            part = slice(start, start + comparison.slice)
            comparison.take(samples[part], other[part])
            rows.append(comparison.correct(self._taken(samples[part])))
        return np.concatenate(rows)

    def _taken(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        """Run the kernel over samples and return its rows."""
        taken = self._run(self._floats, self._integers, samples, 0)
        rows = self._rows()
        while taken < len(samples):
            taken = self._run(self._floats, self._integers, samples, taken)
            rows = np.concatenate([rows, self._rows()])
        return rows

    def levels(self, blocks: int = 1) -> Levels:
        """Return the band energy at the end of the newest `blocks` of 0.1 s, and what it is compared with.

        At most the last 6.4 s, and none from before a break, are known. Nothing is computed: it is the state as
        it stands.
        """
        floats, integers = self._floats, self._integers
        done = int(integers[at.I_BLOCKS]) if integers[at.I_STARTED] else 0
        order = np.arange(max(done - min(blocks, at.GRAVITY_BLOCKS), 0), done)
        energy = floats[at.GRAVITY + at.LANES * (order % at.GRAVITY_BLOCKS) + 3]
        last = integers[at.I_INDEX] - integers[at.I_BLOCK_FILL]
        threshold = max(float(floats[at.S_ON]), float(floats[at.S_FLOOR]))
        known = math.isfinite(threshold)
        return Levels(
            energy,
            last - (done - 1 - order) * integers[at.I_BLOCK],
            math.exp(floats[at.S_NOISE]) if known else math.nan,
            threshold,
            bool(integers[at.I_OPEN]),
        )

    def rest_bouts(self) -> list[dict[str, Any]]:
        """Return the rest states so far: onset (s), duration (s) and rest of each bout, the last one still open."""
        onsets = [sample for sample, _ in self._turns]
        ends = [*onsets[1:], self.index][: len(onsets)]
        return [
            {
                "onset": onset / self._rate,
                "duration": (end - onset) / self._rate,
                "rest": RESTS[code],
            }
            for onset, end, (_, code) in zip(onsets, ends, self._turns, strict=True)
            if end > onset
        ]

    def gap(self, missing: int) -> None:
        """Say that `missing` samples were lost before the next one, of the reference too.

        Raises
        ------
        UsageError
            If `missing` is negative, not a whole number, or longer than any recording.
        """
        if not isinstance(missing, int | np.integer) or not 0 <= missing <= _LONGEST_GAP:
            raise UsageError(
                f"gap of {missing!r} samples: a whole number from 0 to {_LONGEST_GAP} was expected"
            )
        self._integers[at.I_GAP] += missing
        if self._reference is not None:
            self._reference.gap(missing)

    def flush(self) -> Events:
        """End the segment: close an open event and return every final row still due.

        Samples may follow; the filters then begin anew, as after a loss.
        """
        return self._table(self.flush_rows())

    def flush_rows(self) -> NDArray[np.float64]:
        """End the segment as `flush` does and return the kernel's own rows."""
        self._finish(self._floats, self._integers)
        if self._reference is None:
            return self._rows()
        self._reference.restart()
        return self._reference.correct(self._rows())

    def reset(self) -> None:
        """Forget everything but the settings."""
        self._floats[:], self._integers[:] = self._fresh
        self._turns = []
        if self._reference is not None:
            self._reference.reset()

    def state(self) -> bytes:
        """Return everything that the next samples' rows depend on; `from_state` goes on from there."""
        head: dict[str, Any] = {
            "layout": at.LAYOUT_VERSION,
            "rate": self._rate,
            "site": self._site,
            "settings": self._settings.to_dict(),
            "rest": self._turns,
            "floats": len(self._floats),
            "integers": len(self._integers),
        }
        compared = b""
        if self._reference is not None:
            head["reference"] = self._reference.place
            compared = self._reference.state()
        body = (
            json.dumps(head).encode()
            + b"\n"
            + self._floats.astype("<f8").tobytes()
            + self._integers.astype("<i8").tobytes()
            + compared
        )
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Return the detector that `state` was taken from.

        Raises
        ------
        DataError
            If the bytes are not such a state, are damaged, or come from another layout of it.
        """
        body = state[len(_MAGIC) + 32 :]
        if not state.startswith(_MAGIC) or hashlib.sha256(body).digest() != state[len(_MAGIC) :][:32]:
            raise DataError("these bytes are not the saved state of a detector, or are damaged")
        line, _, arrays = body.partition(b"\n")
        head = json.loads(line)
        if head["layout"] != at.LAYOUT_VERSION:
            raise DataError(
                f"the saved state has layout {head['layout']}, this version of hypnic has "
                f"{at.LAYOUT_VERSION}: start the detector anew"
            )
        detector = cls(
            head["rate"], head["site"], Settings.from_dict(head["settings"]), head.get("reference", False)
        )
        detector._turns = [(sample, code) for sample, code in head["rest"]]
        split, end = 8 * head["floats"], 8 * (head["floats"] + head["integers"])
        detector._floats[:] = np.frombuffer(arrays[:split], "<f8")
        detector._integers[:] = np.frombuffer(arrays[split:end], "<i8")
        if detector._reference is not None:
            detector._reference.restore(arrays[end:])
        return detector

    def _rows(self) -> NDArray[np.float64]:
        turns = int(self._integers[at.I_TURNS])
        if turns:
            self._integers[at.I_TURNS] = 0
            table = self._integers[at.TURNS : at.TURNS + 2 * turns]
            self._turns += zip(table[::2].tolist(), table[1::2].tolist(), strict=True)
        count = int(self._integers[at.I_OUT_N])
        self._integers[at.I_OUT_N] = 0
        return self._floats[at.OUT : at.OUT + count * at.ROW].reshape(count, at.ROW).copy()

    def _table(self, rows: NDArray[np.float64]) -> Events:
        if not len(rows):
            return Events(_NO_ROWS, {})
        return Events(event_rows(rows, self._rate), self.meta)


_NO_ROWS: Final = np.empty(0, EVENT_DTYPE)


def event_rows(rows: NDArray[np.float64], rate: float) -> NDArray[np.void]:
    """Return the kernel's own rows, shape (n, `hypnic.layout.ROW`), as rows of the event table."""
    table = np.empty(len(rows), EVENT_DTYPE)
    for column in COLUMNS:
        if column.name in _ROW_COLUMNS:
            table[column.name] = rows[:, _ROW_COLUMNS[column.name]]
    table["onset"] = rows[:, at.R_ONSET] / rate
    table["duration"] = (rows[:, at.R_END] - rows[:, at.R_ONSET]) / rate
    table["label"] = np.asarray(LABELS)[rows[:, at.R_LABEL].astype(int)]
    table["rest"] = np.asarray(RESTS)[rows[:, at.R_REST].astype(int)]
    return table


def emissions(rows: NDArray[np.float64], rate: float) -> list[tuple[float, np.void]]:
    """Return the rows of the event table with the time (s of the recording) at which each came out.

    From these `hypnic.scoring.score` measures the latency. The time is that of the sample which brought the row out,
    the delays of a board, a buffer or a computer not included.
    """
    return list(zip((rows[:, at.R_EMITTED] / rate).tolist(), event_rows(rows, rate), strict=True))


def detect(
    source: Source | ArrayLike,
    rate: float | None = None,
    site: str | None = None,
    settings: Settings | None = None,
    progress: Callable[[int], None] | None = None,
    reference: Source | ArrayLike | None = None,
    place: str | None = None,
) -> Events:
    """Find the events of a whole recording.

    Parameters
    ----------
    source : Source or array_like, shape (n, 3)
        A recording, a simulated sleeper, or acceleration in g.
    rate : float, optional
        Sampling rate in Hz: needed for an array, otherwise the source's.
    site : {"wrist", "mattress"}, optional
        Where the sensor was; by default the source's, for an array the wrist.
    settings : Settings, optional
        Thresholds; by default the preset of the site.
    progress : callable, optional
        Called with the number of samples done after each chunk, lost ones counted.
    reference : Source or array_like, shape (n, 3), optional
        What a second sensor felt at the same time, of the same rate and by the same clock: sample by sample, or
        by start time where both have one (see `hypnic.reference`).
    place : {"bed", "limb"}, optional
        Where the reference is; by default on a limb where its site is the wrist, and on the bed otherwise.

    Returns
    -------
    Events
        The last revision of each event, ordered by onset. Its `meta` holds the counts of samples and the bouts
        of rest too.

    Raises
    ------
    UsageError
        If an array comes without a rate, or rate, site, settings or the reference's rate are not supported.
    DataError
        If the samples have another shape, or are fewer than the warm-up needs, or the reference is of another
        time.
    """
    detector, rows = detect_rows(source, rate, site, settings, progress, reference, place)
    table = event_rows(rows, detector.rate)
    return Events(table, detector.meta | {"counts": detector.counts, "rest": detector.rest_bouts()}).latest()


def detect_rows(
    source: Source | ArrayLike,
    rate: float | None = None,
    site: str | None = None,
    settings: Settings | None = None,
    progress: Callable[[int], None] | None = None,
    reference: Source | ArrayLike | None = None,
    place: str | None = None,
) -> tuple[Detector, NDArray[np.float64]]:
    """Run a detector over a whole recording and return it with the kernel's own rows.

    Parameters
    ----------
    source, rate, site, settings, progress, reference, place
        As for `detect`.

    Returns
    -------
    detector : Detector
        At the end of the recording.
    rows : ndarray of float64, shape (n, `hypnic.layout.ROW`)
        Every revision of every event as it came out; `event_rows` makes rows of the event table of them.

    Raises
    ------
    As `detect`.
    """
    if not isinstance(source, Source):
        if rate is None:
            raise UsageError("an array of samples needs its rate: detect(xyz, rate=100)")
        source = ArraySource(source, rate, site or "wrist")
    rate = source.rate if rate is None else rate
    aligned = None
    if reference is not None:
        from hypnic.reference import Aligned

        aligned = Aligned(reference, rate)
        place = aligned.place if place is None else place
    elif place is not None:
        raise UsageError(f"place {place!r} is that of a reference, and none was given")
    detector = Detector(
        rate, source.site if site is None else site, settings, False if place is None else place
    )
    rows = []
    for chunk in source:
        detector.gap(chunk.missing)
        rows.append(detector.push_rows(chunk.xyz, aligned.beside(chunk) if aligned else None))
        if progress is not None:
            progress(detector.index)
    rows.append(detector.flush_rows())
    if aligned:
        aligned.check()
    received = detector.counts["received"]
    needed = math.ceil((detector.settings.warmup + detector.settings.guard) * detector.rate)
    if received <= needed:
        raise DataError(
            f"{received / detector.rate:.1f} s of usable samples: at least {needed / detector.rate:g} s are "
            "needed to know the background"
        )
    return detector, np.concatenate(rows)


def _state(rate: float, s: Settings) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the two arrays of a detector that has seen nothing."""
    from hypnic.rest import EPOCH, MINUTES  # numba comes with it, which whoever makes a detector has loaded

    def samples(seconds: float, least: int = 1) -> int:
        return max(least, round(seconds * rate))

    block = samples(s.block)
    period = block / rate
    epoch = max(1, round(EPOCH / period))
    keep_2, keep_10, keep_60 = (math.exp(-epoch * period / (60.0 * minutes)) for minutes in MINUTES)
    waking = load_waking(s.name)
    ring = 1 << (max(samples(s.lookback), block) + 4).bit_length()
    span = max(1, round(s.background / period))
    guard = round(s.guard / period)
    floats = np.zeros(at.RING + at.LANES * ring)
    integers = np.zeros(at.BIN_RING + guard + span + 1, np.int64)

    high = min(s.band_high, 0.4 * rate)
    has_hf = s.hf_low <= 0.4 * rate
    hf = highpass(s.hf_low, rate) if has_hf else (0.0, 0.0, 0.0, 0.0, 0.0)
    filters = (highpass(s.band_low, rate), lowpass(high, rate), hf)
    blocks = (highpass(0.4, 1.0 / period), lowpass(min(1.5, 0.4 / period), 1.0 / period))
    shares = (lowpass(3.0, rate), lowpass(6.0, rate))
    floats[at.FILTERS : at.FILTERS + at.FILTER_NUMBERS] = np.concatenate(filters + blocks + shares)
    floats[at.MODEL : at.MODEL + at.MODEL_SIZE] = load_model(s.name).packed()
    for position, value in {
        at.P_RATE: rate,
        at.P_SMOOTH: pole(s.smooth, rate),
        at.P_ON_MIN: s.on_min,
        at.P_ON_MAX: s.on_max,
        at.P_ON_OVER: s.on_over,
        at.P_LOUD: s.loud,
        at.P_OFF: s.off,
        at.P_RELEASE: math.exp(-s.release),
        at.P_REARM: math.exp(s.rearm),
        at.P_FLOOR: s.floor_g**2,
        at.P_FLOOR_STEPS: s.floor_steps,
        at.P_MAX_G: s.max_g,
        # Group delay of the low-pass at low frequencies: sqrt(2) / (2 pi corner).
        at.P_DELAY: math.sqrt(2.0) / (2.0 * math.pi * high) * rate,
        at.P_POSTURE: s.posture_angle,
        at.P_REST_ANGLE: s.rest_angle,
        at.P_SETTLE: s.settle,
        at.P_STILL: s.still,
        at.P_SETTLING: s.settling,
        at.P_WINDOW: s.window,
        at.P_WAKING: s.waking,
        at.P_WAKING_KEEP: math.exp(-period / s.waking_decay),
        at.P_KEEP_2: keep_2,
        at.P_KEEP_10: keep_10,
        at.P_KEEP_60: keep_60,
        at.P_REOPEN: waking.intercept,
        at.P_REOPEN_2: waking.weights[0],
        at.P_REOPEN_10: waking.weights[1],
        at.P_REOPEN_60: waking.weights[2],
        at.P_JERK_SCORE: s.jerk_score,
        at.P_JERK_T90: s.jerk_t90,
        at.P_IMPACT_T90: s.impact_t90,
        at.P_IMPACT_HF: s.impact_hf,
        at.P_RHYTHM: s.rhythm,
        at.P_PLM_LOW: s.plm_low,
        at.P_PLM_HIGH: s.plm_high,
        at.P_BUSY: 1.0 - math.exp(-period / 60.0),
        at.P_HAS_HF: float(has_hf),
        at.P_BLOCK: period,
        at.P_WHITEN: s.whiten,
        at.P_SIDEWAYS: s.sideways,
        at.P_SPREAD: 1.0 - math.exp(-period / s.spread),
        at.S_WXX: 1.0,
        at.S_WYY: 1.0,
        at.S_WZZ: 1.0,
        at.S_ON: math.inf,
        at.S_REARM: math.inf,
        # Until a difference has been seen, a coarse sensor is assumed.
        at.S_STEP: 0.05,
        at.S_FLAT: 0.9,
    }.items():
        floats[position] = value
    for position, count in {
        at.I_RING: ring,
        at.I_BLOCK: block,
        at.I_GUARD: guard,
        at.I_SPAN: span,
        at.I_WARMUP: max(1, round(s.warmup / period)),
        at.I_PATIENCE: max(1, round(s.patience / period)),
        at.I_HANG: samples(s.hang),
        at.I_EARLY: samples(s.early),
        at.I_LOOKBACK: samples(s.lookback),
        at.I_MAX_EVENT: samples(s.max_event),
        at.I_FINAL: samples(s.final_delay),
        at.I_BRIDGE: samples(s.bridge),
        at.I_BLANK: samples(s.blank, 0),
        at.I_STUCK_MIN: samples(0.5),
        at.I_LONG_GAP: samples(600.0),
        at.I_REST: RESTS.index("settling"),
        at.I_EPOCH: epoch,
    }.items():
        integers[position] = count
    return floats, integers
