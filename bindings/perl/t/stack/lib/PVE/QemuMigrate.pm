# The live migration of one VM to the other node.
package PVE::QemuMigrate;

use strict;
use warnings;

use base 'PVE::AbstractMigrate';

use Time::HiRes qw(clock_gettime usleep CLOCK_MONOTONIC);

use PVE::QemuConfig;
use PVE::QemuServer;
use PVE::QemuServer::BlockJob;
use PVE::QemuServer::Monitor qw(mon_cmd qmp_peer);
use PVE::Tools qw(render_bytes untaint);
use PVE::Tunnel;

my $POLL_MICROSECONDS = 1_000_000;
my $NEAR_POLL_MICROSECONDS = 100_000;
my $MAXIMUM_QUERY_FAILURES = 5;
my $POLLS_WITHOUT_PROGRESS = 5;
my $DEFAULT_DOWNTIME_SECONDS = 0.1;
my $MAXIMUM_DOWNTIME_MILLISECONDS = 2_000_000;
my $UNLIMITED_BANDWIDTH = 32 * 1024 ** 3;
my $XBZRLE_CACHE_BYTES = 64 * 1024 ** 2;

# ---- Before anything is touched

sub prepare {
    my ($self, $vmid) = @_;
    my $config = $self->{vmconf} = PVE::QemuConfig->load_config($vmid);
    PVE::QemuConfig->check_lock($config);
    die "VM $vmid does not run\n" if !PVE::QemuServer::check_running($vmid);
    eval { $self->remote(['/bin/true']) } if $self->{rem_ssh};
    die "node '$self->{node}' can't be reached - $@" if $@;
    return 1;
}

sub phase1 {
    my ($self, $vmid) = @_;
    $self->log('info', "migrating VM $vmid to node $self->{node} ($self->{nodeip})");
    PVE::QemuConfig->set_lock($vmid, 'migrate');
    my $drives = PVE::QemuServer::drives($self->{vmconf});
    for my $drive (sort keys %$drives) {
        next if !PVE::QemuServer::is_local_volume($drives->{$drive});
        my $bytes = PVE::QemuServer::volume_size($drives->{$drive});
        $self->{mirror}{$drive} = $bytes;
        $self->log('info', "local disk $drive, " . render_bytes($bytes) . ", will be mirrored");
    }
    return;
}

sub phase1_cleanup {
    my ($self, $vmid) = @_;
    PVE::QemuConfig->remove_lock($vmid, 'migrate');
    return;
}

# ---- The transfer

my $start_target = sub {
    my ($self, $vmid) = @_;
    my @mirrors = map { ('--mirror', "$_=$self->{mirror}{$_}") } sort keys %{ $self->{mirror} // {} };
    my @command = ('qm', 'start', $vmid, '--migratedfrom', PVE::Tools::nodename(), @mirrors);
    my %answer;
    $self->remote(\@command, sub {
        my ($line) = @_;
        if ($line =~ /\Aram (unix:\/[a-z0-9\/._-]+)\z/) {
            $answer{ram} = $1;
        } elsif ($line =~ /\Avolume (scsi[0-9]+) ([a-z]+:[a-z0-9\/._-]+)\z/) {
            $self->{target_volumes}{$1} = $2;
        } elsif ($line =~ /\Anbd (scsi[0-9]+) (nbd:unix:\/[a-z0-9\/._-]+:exportname=[a-z0-9-]+)\z/) {
            $answer{nbd}{$1} = $2;
        } else {
            $self->log('info', "[$self->{node}] $line");
        }
    });
    die "the target did not say where it listens\n" if !$answer{ram};
    return \%answer;
};

my $open_tunnel = sub {
    my ($self, $answer) = @_;
    my %sockets;
    for my $address ($answer->{ram}, values %{ $answer->{nbd} // {} }) {
        $address =~ /unix:([^:]+)/ and $sockets{$1} = 1;
    }
    $self->log('info', 'opening the tunnel');
    $self->{tunnel} =
        PVE::Tunnel::fork_ssh_tunnel($self->{rem_ssh}, ['qm', 'mtunnel'], [sort keys %sockets]);
    return;
};

my $start_mirrors = sub {
    my ($self, $vmid, $addresses) = @_;
    my $jobs = $self->{storage_migration_jobs} = {};
    my $by_node = PVE::QemuServer::drives_are_nodes($self->{vmconf});
    for my $drive (sort keys %$addresses) {
        $self->log('info', "mirroring $drive to $addresses->{$drive}");
        PVE::QemuServer::BlockJob::mirror($vmid, $drive, $addresses->{$drive}, $by_node, $jobs);
    }
    PVE::QemuServer::BlockJob::monitor(qmp_peer($vmid), undef, $jobs, 'ready');
    $self->log('info', 'all disks are in sync');
    return;
};

my $set_parameters = sub {
    my ($self, $vmid) = @_;
    my $config = $self->{vmconf};
    PVE::QemuServer::set_migration_caps($vmid);
    my $speed = ($config->{migrate_speed} // 0) * 1024 ** 2;
    my $downtime = $config->{migrate_downtime} // $DEFAULT_DOWNTIME_SECONDS;
    my $milliseconds = $self->{downtime_limit} = int($downtime * 1000);
    mon_cmd($vmid, 'migrate-set-parameters',
        'max-bandwidth' => int($speed || $UNLIMITED_BANDWIDTH),
        'xbzrle-cache-size' => int($XBZRLE_CACHE_BYTES),
        'downtime-limit' => $milliseconds);
    return;
};

# The ramp: more than five polls that leave as much to do as before double the limit.
my $watch_progress = sub {
    my ($self, $vmid, $poll, $remaining) = @_;
    $poll->{lowest} //= $remaining;
    if ($remaining < $poll->{lowest}) {
        $poll->{lowest} = $remaining;
        $poll->{stalled} = 0;
        return;
    }
    return if ++$poll->{stalled} <= $POLLS_WITHOUT_PROGRESS;
    $poll->{stalled} = 0;
    return if $self->{downtime_limit} >= $MAXIMUM_DOWNTIME_MILLISECONDS;
    my $limit = $self->{downtime_limit} * 2;
    if ($limit > $MAXIMUM_DOWNTIME_MILLISECONDS) {
        $limit = $MAXIMUM_DOWNTIME_MILLISECONDS;
        $self->log('info', "capping downtime limit to maximum possible: $limit ms");
    } else {
        $self->log('info', "auto-increased downtime to continue migration: $limit ms");
    }
    $self->{downtime_limit} = $limit;
    eval { mon_cmd($vmid, 'migrate-set-parameters', 'downtime-limit' => int($limit)) };
    $self->log('warn', "the downtime limit could not be changed: $@") if $@;
    return;
};

my $log_figures = sub {
    my ($self, $poll, $stat) = @_;
    my $now = clock_gettime(CLOCK_MONOTONIC);
    return if defined($poll->{logged}) && $now - $poll->{logged} < 0.95;
    $poll->{logged} = $now;
    my $ram = $stat->{ram};
    my $rate = ($ram->{mbps} // 0) * 1_000_000 / 8;
    my $line = 'migration active, transferred ' . render_bytes($ram->{transferred})
        . ' of ' . render_bytes($ram->{total}) . ' VM-state';
    $line .= ' (+ ' . render_bytes($stat->{vfio}{transferred}) . ' VFIO-state)' if $stat->{vfio};
    $line .= ', ' . render_bytes($rate) . '/s';
    my $dirtied = ($ram->{'dirty-pages-rate'} // 0) * ($ram->{'page-size'} // 4096);
    $line .= ', VM dirties lots of memory: ' . render_bytes($dirtied) . '/s' if $dirtied > $rate;
    $self->log('info', $line);
    my $xbzrle = $stat->{'xbzrle-cache'};
    if ($xbzrle && $xbzrle->{pages}) {
        my $encoded = render_bytes($xbzrle->{bytes});
        $self->log('info', "xbzrle: send updates to $xbzrle->{pages} pages in $encoded");
    }
    return;
};

my $log_completion = sub {
    my ($self, $poll, $stat) = @_;
    my $seconds = clock_gettime(CLOCK_MONOTONIC) - $poll->{started};
    my $bytes = $stat->{ram} ? $stat->{ram}{total} : ($self->{vmconf}{memory} // 128) * 1024 ** 2;
    my $downtime = $stat->{downtime} // 0;
    $self->log('info', 'average migration speed: ' . render_bytes($bytes / ($seconds || 1))
        . "/s - downtime $downtime ms");
    $self->log('info', 'migration completed, transferred '
        . render_bytes($stat->{ram}{transferred}) . ' VM-state') if $stat->{ram};
    return;
};

# Looks at one answer. True when the migration has completed.
my $take_status = sub {
    my ($self, $vmid, $poll, $stat) = @_;
    my $status = $stat->{status} // '';
    if ($status !~ /\A(?:setup|wait-unplug|cancelling|active|device|completed|failed|cancelled)\z/) {
        die "unknown migration status '$status' - aborting\n";
    }
    if ($status eq 'failed' || $status eq 'cancelled') {
        my $reason = $stat->{'error-desc'} ? " - $stat->{'error-desc'}" : '';
        $self->log('info', "migration status error: $status$reason");
        die "aborting\n";
    }
    if ($status eq 'completed') {
        $log_completion->($self, $poll, $stat);
        $self->log('info', 'migration status: completed');
        return 1;
    }
    if ($status eq 'active' && $stat->{ram}) {
        my $ram = $stat->{ram};
        $log_figures->($self, $poll, $stat);
        $watch_progress->($self, $vmid, $poll, $ram->{remaining});
        my $average = $ram->{transferred} / $poll->{count};
        $poll->{sleep} = $ram->{remaining} < $average ? $NEAR_POLL_MICROSECONDS : $POLL_MICROSECONDS;
    } elsif ($status ne 'active') {
        $self->log('info', "migration in status '$status' - waiting for transition");
    }
    return 0;
};

my $wait_for_completion = sub {
    my ($self, $vmid) = @_;
    my $poll = {
        started => clock_gettime(CLOCK_MONOTONIC), sleep => $POLL_MICROSECONDS,
        count => 0, failures => 0, stalled => 0,
    };
    while (1) {
        usleep($poll->{sleep});
        my $stat = eval { mon_cmd($vmid, 'query-migrate') };
        if (my $error = $@) {
            die $error if $error eq "interrupted by signal\n";
            $poll->{failures}++;
            $self->log('warn', "query migrate failed: $error");
            next if $poll->{failures} < $MAXIMUM_QUERY_FAILURES;
            die "too many query migrate failures - aborting\n";
        }
        $poll->{failures} = 0;
        $poll->{count}++;
        return if $take_status->($self, $vmid, $poll, $stat);
    }
};

sub phase2 {
    my ($self, $vmid) = @_;
    $self->log('info', "starting the VM on node $self->{node}");
    my $answer = $start_target->($self, $vmid);
    $open_tunnel->($self, $answer);
    if ($answer->{nbd}) {
        $self->{stopnbd} = 1;
        $start_mirrors->($self, $vmid, $answer->{nbd});
    }
    $set_parameters->($self, $vmid);

    my $uri = $answer->{ram};
    $self->log('info', "start migrate command to $uri");
    eval { mon_cmd($vmid, 'migrate', uri => $uri) };
    $self->log('warn', "the migrate command answered: $@") if $@;

    $wait_for_completion->($self, $vmid);

    if ($self->{storage_migration_jobs}) {
        my $jobs = $self->{storage_migration_jobs};
        eval { PVE::QemuServer::BlockJob::monitor(qmp_peer($vmid), undef, $jobs, 'cancel') };
        if (my $error = $@) {
            die $error if $error eq "interrupted by signal\n";
            die "Failed to complete storage migration: $error\n";
        }
    }
    return;
}

# After an error in phase 2: the guest goes on here, and nothing is left on the other node.
sub phase2_cleanup {
    my ($self, $vmid) = @_;
    $self->log('info', 'aborting phase 2 - cleaning up');
    my $attempt = sub {
        my ($what, $code) = @_;
        eval { $code->(); 1 } or $self->problem("$what failed: $@");
    };
    $attempt->('migrate_cancel', sub { mon_cmd($vmid, 'migrate_cancel') });
    $attempt->('resuming the source', sub { PVE::QemuServer::resume_postmigrate($vmid) });
    $attempt->('ending the mirrors', sub {
        PVE::QemuServer::BlockJob::cancel(qmp_peer($vmid), $self->{storage_migration_jobs});
    }) if $self->{storage_migration_jobs};
    $attempt->('stopping the target', sub { $self->remote(['qm', 'stop', $vmid]) });
    for my $volume (values %{ $self->{target_volumes} // {} }) {
        $attempt->("freeing $volume", sub { $self->remote(['qm', 'free', $volume]) });
    }
    PVE::Tunnel::finish_tunnel($self->{tunnel}) if $self->{tunnel};
    $attempt->('unlocking', sub { PVE::QemuConfig->remove_lock($vmid, 'migrate') });
    return;
}

# ---- The hand-over, and what is left to do here

my $hand_over = sub {
    my ($self, $vmid) = @_;
    my $config = PVE::QemuConfig->load_config($vmid);
    my $volumes = $self->{target_volumes} // {};
    if (%$volumes) {
        $self->{source_volumes} = [map { $config->{$_} } sort keys %$volumes];
        $config->{$_} = $volumes->{$_} for keys %$volumes;
        PVE::QemuConfig->write_config($vmid, $config);
    }
    PVE::QemuConfig->move_config_to_node($vmid, $self->{node});
    return;
};

my $resume_target = sub {
    my ($self, $vmid) = @_;
    if ($self->{stopnbd}) {
        eval { $self->remote(['qm', 'nbdstop', $vmid]) };
        $self->problem("stopping the NBD server failed: $@") if $@;
    }
    PVE::QemuServer::remove_forwarding_entries($self->{vmconf});
    eval { PVE::Tunnel::write_tunnel($self->{tunnel}, 30, "resume $vmid") };
    $self->problem("resume failed: $@") if $@;
    return;
};

sub phase3_cleanup {
    my ($self, $vmid) = @_;
    $hand_over->($self, $vmid);
    $resume_target->($self, $vmid);
    eval { PVE::QemuServer::vm_stop($vmid) };
    $self->problem("stopping the source failed: $@") if $@;
    for my $volume (@{ $self->{source_volumes} // [] }) {
        eval { PVE::QemuServer::free_volume($volume) };
        $self->problem("freeing $volume failed: $@") if $@;
    }
    return;
}

sub final_cleanup {
    my ($self, $vmid) = @_;
    if (my $error = PVE::Tunnel::finish_tunnel($self->{tunnel})) {
        $self->problem("closing the tunnel failed: $error");
    }
    eval { $self->remote(['qm', 'unlock', $vmid]) };
    $self->problem("unlocking failed: $@") if $@;
    return;
}

1;
