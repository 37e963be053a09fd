# Mirrors of local disks to the target's NBD exports.
package PVE::QemuServer::BlockJob;

use strict;
use warnings;

use JSON ();

use PVE::QemuServer::Monitor qw(mon_cmd qmp_cmd);

# Starts the mirror of one drive. Its job is in the hash before QEMU is asked, as an interruption
# may leave it unknown whether it exists.
sub mirror {
    my ($vmid, $drive_id, $uri, $by_node, $jobs) = @_;
    $uri =~ /\Anbd:unix:([^:]+):exportname=([^:]+)\z/ or die "'$uri' is no NBD address\n";
    my ($path, $export) = ($1, $2);
    if (!$by_node) {
        $jobs->{"drive-$drive_id"} = {};
        mon_cmd($vmid, 'drive-mirror',
            device => "drive-$drive_id", target => $uri, sync => 'full', mode => 'existing',
            format => 'raw', 'auto-dismiss' => JSON::false);
        return;
    }
    my $node = "mirror-target-$drive_id";
    $jobs->{"mirror-$drive_id"} = { node => $node };
    mon_cmd($vmid, 'blockdev-add',
        driver => 'nbd', 'node-name' => $node, export => $export,
        server => { type => 'unix', path => $path });
    mon_cmd($vmid, 'blockdev-mirror',
        'job-id' => "mirror-$drive_id", device => "drive-$drive_id", target => $node,
        sync => 'full', 'auto-dismiss' => JSON::false);
    return;
}

# Watches the jobs once a second. Completion 'ready' returns when every mirror is in sync; 'cancel'
# then ends them all and returns when the last one is gone from the hash. An error leaves the hash
# as it is, for the cleanup. The second argument is the target VM of a clone, unused here.
sub monitor {
    my ($peer, undef, $jobs, $completion) = @_;
    my $ended = eval {
        while (%$jobs) {
            my %status = map { $_->{device} => $_ } @{ qmp_cmd($peer, 'query-block-jobs') };
            _settle($peer, $_, $status{$_}, $jobs) for sort keys %$jobs;
            my @waiting = grep { !$jobs->{$_}{ready} } keys %$jobs;
            if (!@waiting) {
                last if $completion eq 'ready';
                _cancel_all($peer, $jobs);
            }
            last if !%$jobs;
            sleep(1);
        }
        1;
    };
    if (!$ended) {
        my $error = $@;
        die $error if $error eq "interrupted by signal\n";
        die "mirroring error: $error";
    }
    return;
}

# Takes in one job's status: gone, concluded, or on its way.
sub _settle {
    my ($peer, $id, $status, $jobs) = @_;
    my $job = $jobs->{$id};
    if (!$status) {
        die "$id: job is gone\n" if !$job->{dismissed};
        delete $jobs->{$id};
        return;
    }
    if ($status->{status} eq 'concluded') {
        die "$id: $status->{error}\n" if $status->{error};
        die "$id: job ended before it was asked to\n" if !$job->{cancelled};
        _dismiss($peer, $id, $job) if !$job->{dismissed};
        return;
    }
    $job->{ready} = 1 if $status->{ready};
    return;
}

sub _cancel_all {
    my ($peer, $jobs) = @_;
    for my $id (sort keys %$jobs) {
        next if $jobs->{$id}{cancelled};
        qmp_cmd($peer, 'block-job-cancel', device => $id);
        $jobs->{$id}{cancelled} = 1;
    }
    return;
}

sub _dismiss {
    my ($peer, $id, $job) = @_;
    qmp_cmd($peer, 'job-dismiss', id => $id);
    $job->{dismissed} = 1;
    _detach($peer, $job);
    return;
}

sub _detach {
    my ($peer, $job) = @_;
    my $node = delete $job->{node} // return;
    eval { qmp_cmd($peer, 'blockdev-del', 'node-name' => $node) };
    warn $@ if $@;
    return;
}

# Ends the jobs without any regard for the copy, and waits until nothing of them is left.
sub cancel {
    my ($peer, $jobs) = @_;
    for my $id (sort keys %$jobs) {
        eval { qmp_cmd($peer, 'block-job-cancel', device => $id, force => JSON::true) };
    }
    for (1 .. 60) {
        last if !%$jobs;
        my %status = map { $_->{device} => $_ } @{ qmp_cmd($peer, 'query-block-jobs') };
        for my $id (sort keys %$jobs) {
            if (!$status{$id}) {
                _detach($peer, $jobs->{$id});
                delete $jobs->{$id};
            } elsif ($status{$id}{status} eq 'concluded') {
                eval { qmp_cmd($peer, 'job-dismiss', id => $id) };
            }
        }
        sleep(1) if %$jobs;
    }
    die "block jobs do not end: " . join(', ', sort keys %$jobs) . "\n" if %$jobs;
    return;
}

1;
