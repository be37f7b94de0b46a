"""The HDF5 night: `Recording` reads one (or any HDF5 file with (N, 3) samples), `Recorder` writes one.

The layout is known here alone::

    /               format="hypnic", format_version="1", created_by, subject, notes
    /acceleration   (N, 3) counts or float32; sampling_rate (Hz), scale (g per count), units="g",
                    axes="x,y,z", site, start_time (ISO 8601), range_g (g), sensor
    /gaps           sample (row before which samples are missing), missing, reason
    /clock          sample (number of the sample, lost ones counted), device_tick (-1 where there is none),
                    utc (POSIX s)
    /events         the columns of `hypnic.events.COLUMNS`, while recording every revision as it comes, at the
                    end the last of each event; its attributes hold version and settings
    /annotations    onset (s), duration (s), label, source; while recording, rows labelled "withdrawn" were
                    taken back

Stored samples are those received and nothing else. A night has two forms of the same layout. While it is
recorded the samples are plain, in chunks of some hours that are written in place: HDF5 replaces a
compressed chunk in steps, and a recorder that is killed between them leaves one that cannot be read.
Closing rewrites the file shuffled and compressed, in chunks of a minute, and swaps it in whole; `pack`
does that for a night that was cut off, and `repair` brings back what a damaged one still holds.
"""

from __future__ import annotations

from hypnic.recording.layout import FORMAT_VERSION
from hypnic.recording.night import Recording
from hypnic.recording.recorder import Recorder, pack, write_recording
from hypnic.recording.salvage import Repair, repair

__all__ = ["FORMAT_VERSION", "Recorder", "Recording", "Repair", "pack", "repair", "write_recording"]
