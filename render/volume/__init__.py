"""Volume rendering: occupancy, marching, compositing."""
