"""What a record of the Waymo Open Dataset holds: framing, wire format, frames and range images. The reader is `datasets.readers.waymo`."""
