# How much is tested: a fixed part in everyday checks, everything where SWO_LONG is set.
package SwitchoverTest::Extent;

use strict;
use warnings;

use SwitchoverTest::QEMU;

sub is_whole { return $ENV{SWO_LONG} ? 1 : 0 }

# The versions of QEMU to try: the newest alone, or all.
sub versions {
    my @versions = SwitchoverTest::QEMU::versions();
    return is_whole() ? @versions : $versions[-1];
}

1;
