# One select loop for a test: everything that must be read the moment it arrives hangs on it.
package SwitchoverTest::Loop;

use strict;
use warnings;

use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

sub new { return bless { handlers => {} }, shift }

sub now { return clock_gettime(CLOCK_MONOTONIC) }

# The callback gets the time of the wake-up whenever the handle can be read.
sub watch {
    my ($self, $handle, $callback) = @_;
    $self->{handlers}{ fileno $handle } = $callback;
    return;
}

sub forget {
    my ($self, $handle) = @_;
    delete $self->{handlers}{ fileno $handle };
    return;
}

# Serves the handles until the condition holds; dies after the limit, naming what did not happen.
sub run_until {
    my ($self, $seconds, $what, $condition) = @_;
    my $deadline = now() + $seconds;
    while (!$condition->()) {
        die "after $seconds s still waiting for: $what\n" if now() >= $deadline;
        $self->turn(0.05);
    }
    return;
}

sub run_for {
    my ($self, $seconds) = @_;
    my $deadline = now() + $seconds;
    $self->turn($deadline - now()) while now() < $deadline;
    return;
}

sub turn {
    my ($self, $seconds) = @_;
    my $readable = '';
    vec($readable, $_, 1) = 1 for keys %{ $self->{handlers} };
    return if select($readable, undef, undef, $seconds) <= 0;
    my $time = now();
    for my $number (sort { $a <=> $b } keys %{ $self->{handlers} }) {
        my $callback = $self->{handlers}{$number} // next;
        $callback->($time) if vec($readable, $number, 1);
    }
    return;
}

1;
