# Loaded before anything else, it makes the sleeps of the program a hundredth as long.
package SwitchoverTest::ShortSleeps;

use strict;
use warnings;

use Time::HiRes ();

my $original = \&Time::HiRes::usleep;

{
    no warnings qw(redefine prototype);
    *Time::HiRes::usleep = sub ($) { return $original->($_[0] / 100) };
}

1;
