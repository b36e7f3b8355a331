import subprocess
import sys


def test_cycles_are_looked_for_rarely_and_what_is_loaded_never():
    script = "import gc\nfrom eventrouter.garbage import collect_garbage_rarely\ncollect_garbage_rarely()\n"
    script += "print(gc.get_threshold()[0] > 10_000, gc.get_freeze_count() > 1000, gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True True True\n"
