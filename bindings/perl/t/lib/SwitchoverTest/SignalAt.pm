# Sends a signal to the very process that it is loaded into, at a named point of its migration, once:
#
#   -MSwitchoverTest::SignalAt=TERM,phase,switching-over    when that phase of the library is heard of
#   -MSwitchoverTest::SignalAt=TERM,before,PACKAGE::NAME    before a function runs, a second
#   -MSwitchoverTest::SignalAt=TERM,after,PACKAGE::NAME,3   or after its third call
package SwitchoverTest::SignalAt;

use strict;
use warnings;

my $is_sent = 0;

sub import {
    my (undef, $signal, $kind, $name, $count) = @_;
    return if !defined $signal;
    ($signal) = $signal =~ /\A([A-Z]+)\z/;
    $count //= 1;
    if ($kind eq 'phase') {
        _wrap('QEMU::Switchover::next_event', sub {
            my ($original, @arguments) = @_;
            my $event = $original->(@arguments);
            _send($signal) if $event && ($event->{phase} // '') eq $name;
            return $event;
        });
        return;
    }
    _wrap($name, sub {
        my ($original, @arguments) = @_;
        my $is_due = --$count == 0;
        _send($signal) if $is_due && $kind eq 'before';
        my @answer = $original->(@arguments);
        _send($signal) if $is_due && $kind eq 'after';
        return wantarray ? @answer : $answer[-1];
    });
    return;
}

sub _send {
    my ($signal) = @_;
    return if $is_sent++;
    print STDOUT "SignalAt: $signal\n";
    kill($signal, $$);
    return;
}

sub _wrap {
    my ($name, $ours) = @_;
    my ($package, $function) = $name =~ /\A(.+)::([^:]+)\z/;
    my $original = $package->can($function) or die "there is no $name\n";
    no strict 'refs';
    no warnings qw(redefine prototype);
    *{"${package}::$function"} = sub { return $ours->($original, @_) };
    return;
}

1;
