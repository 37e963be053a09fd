# What must be true of a migration inside the stack, whoever did the waiting.
package SwitchoverTest::StackChecks;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use SwitchoverTest::Ticks;

our @EXPORT = qw(log_in_order guest_moved guest_stayed gap_of);

# Every pattern matches a message, each one after the one before; other messages may stand between.
sub log_in_order {
    my ($messages, @patterns) = @_;
    my $position = 0;
    for my $pattern (@patterns) {
        $position++ while $position < @$messages && $messages->[$position] !~ $pattern;
        if ($position >= @$messages) {
            diag("no message in its place for $pattern in:", map { "\n  $_" } @$messages);
            return 0;
        }
        $position++;
    }
    return 1;
}

# The guest runs on beta, alone, without a tick lost, and nothing is left of it on alpha.
sub guest_moved {
    my ($cluster, $vmid) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return subtest "VM $vmid has moved" => sub {
        my ($source, $target) = map { $cluster->ticks($vmid, $_) } qw(alpha beta);
        $target->wait_for(200);
        is(SwitchoverTest::Ticks::interruption($source, $target), undef, 'the count is unbroken');
        is($cluster->qmp('beta', $vmid, 'query-status')->{status}, 'running', 'it runs on beta');
        is($cluster->config('alpha', $vmid), undef, 'its configuration has left alpha');
        unlike($cluster->config('beta', $vmid), qr/^lock:/m, 'it is unlocked on beta');
        is_deeply([$cluster->run_files('alpha', $vmid)], [], 'no socket or process is left on alpha');
        my $address = $cluster->hardware_address($vmid);
        unlike($cluster->forwarding('alpha'), qr/^$address$/m, 'its forwarding entry has left alpha');
        like($cluster->forwarding('beta'), qr/^$address$/m, 'and is on beta');
    };
}

# The guest runs on alpha as if nothing had been, and nothing is left of it on beta.
sub guest_stayed {
    my ($cluster, $vmid) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return subtest "VM $vmid has stayed" => sub {
        my ($source, $target) = map { $cluster->ticks($vmid, $_) } qw(alpha beta);
        $source->wait_for(200);
        is(SwitchoverTest::Ticks::interruption($source), undef, 'the count is unbroken');
        ok($target->never_ran($source), 'it has never run on beta') or diag($target->text);
        is($cluster->qmp('alpha', $vmid, 'query-status')->{status}, 'running', 'it runs on alpha');
        is($cluster->config('beta', $vmid), undef, 'beta has no configuration of it');
        unlike($cluster->config('alpha', $vmid), qr/^lock:/m, 'it is unlocked on alpha');
        is_deeply($cluster->qmp('alpha', $vmid, 'query-block-jobs'), [], 'no block job is left');
        my @nodes = map { $_->{'node-name'} } @{ $cluster->qmp('alpha', $vmid, 'query-named-block-nodes') };
        is_deeply([grep { /\Amirror-/ } @nodes], [], 'no node of a mirror is left');
        is_deeply([$cluster->run_files('alpha', $vmid)], ["$vmid.pid", "$vmid.qmp"],
            'no forwarded socket is left on alpha');
        is_deeply([$cluster->run_files('beta', $vmid)], [], 'no socket or process is left on beta');
        is_deeply([glob($cluster->path('beta', "stack/images/$vmid/*"))], [], 'no volume is left on beta');
        my $address = $cluster->hardware_address($vmid);
        like($cluster->forwarding('alpha'), qr/^$address$/m, 'its forwarding entry is on alpha');
        unlike($cluster->forwarding('beta'), qr/^$address$/m, 'and not on beta');
    };
}

# The guest's gap in ms, printed beside the facts.
sub gap_of {
    my ($cluster, $vmid, $what) = @_;
    my ($source, $target) = map { $cluster->ticks($vmid, $_) } qw(alpha beta);
    my $gap = $source->gap_milliseconds($target);
    diag(sprintf('guest gap, %s: %.0f ms', $what, $gap));
    return $gap;
}

1;
