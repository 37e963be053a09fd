package QEMU::Switchover::QemuServer::Run;

use strict;
use warnings;

use Errno ();
use POSIX ();
use Time::HiRes ();

use QEMU::Switchover ();
use QEMU::Switchover::QMP ();
use QEMU::Switchover::QemuServer::Forward ();

=encoding utf8

=head1 NAME

QEMU::Switchover::QemuServer::Run - one migration of the stack, carried out by the library

=head1 DESCRIPTION

Internal: what L<QEMU::Switchover::QemuServer> does for one migration, from the stack's C<migrate> to
the end of its phase 3. The hooks decide when; here is what.

=head1 METHODS

=cut

my $MONITOR_FOLDER = '/var/run/qemu-server';
# From the stack's `migrate` to QEMU's: connecting and looking at both sides.
my $START_SECONDS = 60;
# How long an error, or a signal, waits for QEMU to decide where the guest is.
my $SETTLE_SECONDS = 60;
# How long the guest may stand before the stack's loop is asked whether it wants to go on.
my $STAND_SECONDS = 120;
# What is put in order after the guest runs on the target.
my $FINISH_SECONDS = 10;
my $TURN_MS = 100;

my @SIGNALS = qw(INT TERM QUIT HUP PIPE ALRM);
# The only statuses of `query-migrate` that the stack's loop bears.
my %KNOWN_STATUS = map { $_ => 1 }
    qw(setup wait-unplug cancelling active device completed failed cancelled);

=head2 new

    my $run = QEMU::Switchover::QemuServer::Run->new($stack, $vmid, \%settings);

For the stack's migration object in its phase 2.

=cut

sub new {
    my ($class, $stack, $vmid, $settings) = @_;
    return bless {
        stack => $stack, vmid => $vmid, settings => $settings, process => $$, phase => 2,
        held_signals => [], held_lines => [],
    }, $class;
}

=head2 state

What the hooks go by: C<idle> (the stack does it all by itself), C<running>, C<offered> (the target
has the guest, paused, and both monitors are free), C<granted> (the guest was let run there), C<ended>.

=cut

sub state {
    my ($self) = @_;
    return 'idle' if !$self->{migration};
    return 'granted' if $self->{granted};
    return 'ended' if $self->{migration}->phase() eq 'ended';
    return $self->{offered} ? 'offered' : 'running';
}

=head2 take_over

    my $taken = $run->take_over(\%arguments_of_migrate);

Sets up and starts. False where the stack's own C<migrate> shall go out: nothing is left changed then,
and the log has one line that says why, but for a VM without a monitor socket. Signals that arrive
meanwhile are kept for L</deliver_signals>, as the stack catches what is thrown here.

=cut

sub take_over {
    my ($self, $arguments) = @_;
    my $source = "$MONITOR_FOLDER/$self->{vmid}.qmp";
    return 0 if !-S $source;
    local @SIG{@SIGNALS} = map { $self->_holder($_) } @SIGNALS;
    return 1 if eval { $self->_start($source, $arguments); 1 };
    my $reason = "$@" =~ s/\s+\z//r =~ s/\Aswitchover: vm \d+: //r;
    my $is_clean = eval { $self->_undo_start() };
    # A migration that may be under way is seen through; it is never started a second time.
    return 1 if !$is_clean && $self->{migration};
    $self->dispose();
    return 1 if @{ $self->{held_signals} };
    $self->_log('warn', "stepping aside, the migration goes on without it: $reason");
    return 0;
}

# Runs the code on a signal whose handler would interrupt the stack.
sub _holder {
    my ($self, $name) = @_;
    my $handler = $SIG{$name} // 'DEFAULT';
    return $handler if $handler eq 'IGNORE' || ($name eq 'PIPE' && $handler eq 'DEFAULT');
    return sub { push @{ $self->{held_signals} }, $name };
}

sub _start {
    my ($self, $source, $arguments) = @_;
    my $stack = $self->{stack};
    die "$self->{settings}{unfit}\n" if $self->{settings}{unfit};
    my $rem_ssh = $stack->{rem_ssh};
    die "there is no ssh connection to the other node\n"
        if ref $rem_ssh ne 'ARRAY' || ($stack->{opts}{migration_type} // '') eq 'websocket';
    die "the stack has no tunnel to the other node\n" if !$stack->{tunnel};
    my ($uri, @more) = (@$arguments{'uri'}, grep { $_ ne 'uri' && $_ ne 'timeout' } sort keys %$arguments);
    die "'migrate' has an argument that is not known: '$more[0]'\n" if @more;
    die "'migrate' has no address\n" if !defined $uri || ref $uri;
    my $parameters = QEMU::Switchover::QMP->connect($source)->execute('query-migrate-parameters');
    my $hand_over = $self->_hand_over();
    my $journal = $self->_journal();
    $self->_check_signals();
    $self->{forward} = QEMU::Switchover::QemuServer::Forward->start($rem_ssh, $source);
    $self->_check_signals();
    my $loop = $self->{loop} = QEMU::Switchover->new();
    my $migration = $loop->migration(
        name => "vm $self->{vmid}",
        source => $source,
        target => $self->{forward}->path(),
        uri => $uri,
        hand_over => $hand_over eq 'after-resume' ? 'before-resume' : 'external',
        source_end => 'keep',
        source_sharing => 'shared',
        bandwidth => $parameters->{'max-bandwidth'} // 0,
        downtime_limit_ms => $parameters->{'downtime-limit'} // 300,
        # The stack has a ramp of its own.
        highest_downtime_limit_ms => 0,
        journal => $journal,
        # A mirror that outlives its NBD server lets the stack's ssh write an error into the task's log,
        # and inside this stack the other order gains nothing that can be measured.
        fast_order => 0,
        disks => $self->_mirrors(),
    );
    $migration->start();
    $self->{migration} = $migration;
    my $deadline = _now() + $START_SECONDS;
    while ($self->_is_before_migrate()) {
        $self->_turn();
        $self->_check_signals();
        die "QEMU is not ready for it after $START_SECONDS s\n" if _now() >= $deadline;
    }
    die $migration->error() if $migration->phase() eq 'ended';
    return;
}

sub _check_signals {
    my ($self) = @_;
    die "interrupted by signal\n" if @{ $self->{held_signals} };
    return;
}

sub _is_before_migrate {
    my ($self) = @_;
    return $self->{migration}->phase() =~ /\A(?:idle|connecting|preflight|preparing|mirroring|undoing)\z/;
}

# As it was chosen, where this stack has what it takes.
sub _hand_over {
    my ($self) = @_;
    my $settings = $self->{settings};
    if ($settings->{hand_over} eq 'after-resume' && !$settings->{forwarding}) {
        $self->_log('warn', 'the configuration moves first: this release of the stack has no function'
            . ' that is known to add forwarding entries');
        $settings->{hand_over} = 'before-resume';
    }
    return $settings->{hand_over};
}

# The journal's path; its folder is made where it is missing.
sub _journal {
    my ($self) = @_;
    my $folder = $self->{settings}{journals};
    mkdir($folder, 0700);
    die "there is no folder '$folder' for the journal\n" if !-d $folder;
    return "$folder/vm_$self->{vmid}.journal";
}

# The mirrors that the stack has started, by the ids of their block jobs.
sub _mirrors {
    my ($self) = @_;
    my $jobs = $self->{stack}{storage_migration_jobs} // {};
    $self->{jobs} = { map { $_ => 1 } keys %$jobs };
    return [map { +{ job => $_, device => s/\A(?:drive|mirror)-//r } } sort keys %$jobs];
}

# Brings a start that failed back to where it began. False where QEMU may have taken `migrate`.
sub _undo_start {
    my ($self) = @_;
    my $migration = $self->{migration} // return 1;
    my $deadline = _now() + $SETTLE_SECONDS;
    while ($migration->phase() ne 'ended') {
        return 0 if !$self->_is_before_migrate() || _now() >= $deadline;
        $migration->cancel();
        $self->_turn();
    }
    @{ $self->{held_lines} } = ();
    return $migration->end() eq 'cancelled' || $migration->end() eq 'failed';
}

=head2 deliver_signals

Lets the stack's handlers have the signals that were kept; they may C<die>.

=cut

sub deliver_signals {
    my ($self) = @_;
    while (defined(my $name = shift @{ $self->{held_signals} })) {
        kill($name, $$);
    }
    return;
}

=head2 wait_for_news

    $run->wait_for_news($seconds);

Works for about this long, but not past a new report of QEMU, nor past the end of the switchover; while
the guest stands it goes on until QEMU has decided. Handlers of signals run in between, and may C<die>.

=cut

sub wait_for_news {
    my ($self, $seconds) = @_;
    my $begin = _now();
    while ($self->state() eq 'running') {
        $self->_turn();
        next if $self->_guest_stands() && _now() < $begin + $STAND_SECONDS;
        my $waited = _now() - $begin;
        last if $waited >= $seconds && ($self->{has_news} || $waited >= $seconds + 1);
    }
    $self->{has_news} = 0;
    $self->_fail_of_storage() if $self->state() eq 'ended';
    return;
}

sub _guest_stands {
    my ($self) = @_;
    return $self->{migration}->phase() =~ /\A(?:switching-over|handing-over)\z/;
}

# A mirror that failed has its own words in the stack.
sub _fail_of_storage {
    my ($self) = @_;
    my $error = $self->{migration}->error() // return;
    return if ($error->failure() // '') ne 'storage';
    die 'Failed to complete storage migration: ' . $self->_failure_text() . "\n";
}

sub _failure_text {
    my ($self) = @_;
    return QEMU::Switchover::C::migration_failure_text($self->{migration}{handle}) =~ s/\Amigration failed: //r;
}

# Works for a moment, and takes what happened.
sub _turn {
    my ($self, $limit_ms) = @_;
    $self->{loop}->dispatch($limit_ms // $TURN_MS);
    while (my $event = $self->{loop}->next_event()) {
        my $kind = $event->{kind};
        $self->_take_progress() if $kind eq 'progress';
        $self->_entered($event->{phase}) if $kind eq 'phase';
        $self->_offer() if $kind eq 'hand-over-wanted';
        $self->_log_later('warn', $event->{text}) if $kind eq 'warning';
        $self->_log_later('info', $event->{text}) if $kind eq 'log';
    }
    return;
}

# The same report twice is no news: the stack would take it for a poll without progress.
sub _take_progress {
    my ($self) = @_;
    my $report = $self->{migration}->report() // return;
    my $age = $report->{'total-time'} // 0;
    $self->{has_news} = 1 if $age != ($self->{report_age} // -1);
    $self->{report_age} = $age;
    return;
}

sub _entered {
    my ($self, $phase) = @_;
    $self->{stopped_at} = _now() if $phase eq 'switching-over';
    $self->{sent_at} = _now() if $phase eq 'handing-over';
    delete @$self{qw(stopped_at sent_at)} if $phase eq 'transferring';
    return;
}

sub _offer {
    my ($self) = @_;
    $self->{offered} = 1;
    $self->{offered_at} = _now();
    return;
}

=head2 answer

    my $value = $run->answer($command, \%arguments, $original);

What the stack's command to the source's monitor brings while the library holds it.

=cut

sub answer {
    my ($self, $command, $arguments) = @_;
    return $self->_report() if $command eq 'query-migrate';
    if ($command eq 'migrate-set-parameters' && join(' ', keys %$arguments) eq 'downtime-limit') {
        my $limit = $arguments->{'downtime-limit'};
        $self->{migration}->change_downtime_limit($limit)
            if $self->{migration}->phase() eq 'transferring';
        return {};
    }
    if ($command eq 'migrate_cancel') {
        $self->{migration}->cancel();
        return {};
    }
    return $self->_execute_beside($command, $arguments);
}

# Queues for the monitor like everybody else, and lets the library see that somebody waits.
sub _execute_beside {
    my ($self, $command, $arguments) = @_;
    my %arguments = %$arguments;
    my $timeout_ms = int(1000 * (delete($arguments{timeout}) // 5));
    my $value = eval {
        QEMU::Switchover::QMP->connect("$MONITOR_FOLDER/$self->{vmid}.qmp",
            loop => $self->{loop}, timeout_ms => $timeout_ms, events => 0)
            ->execute($command, \%arguments, timeout_ms => $timeout_ms);
    };
    my $error = $@;
    return $value if !$error;
    die $error if !ref $error;
    my $text = $error->code() =~ /\A(?:busy|timeout)\z/ ? 'got timeout' : $error->text();
    die "VM $self->{vmid} qmp command '$command' failed - $text\n";
}

# QEMU's own report, with a status that the stack knows.
sub _report {
    my ($self) = @_;
    my $migration = $self->{migration};
    my %report = %{ $migration->report() // {} };
    my $status = $report{status} // 'setup';
    if ($self->state() ne 'running' && $migration->end() =~ /\A(?:none|completed)\z/) {
        $report{status} = 'completed';
    } elsif ($self->state() eq 'ended') {
        $report{status} = $migration->end() eq 'cancelled' ? 'cancelled' : 'failed';
        $report{'error-desc'} //= $self->_failure_text() if $report{status} eq 'failed';
    } elsif ($self->_guest_stands()) {
        $report{status} = 'device';
    } else {
        $report{status} = $KNOWN_STATUS{$status} && $status ne 'completed' ? $status : 'active';
    }
    return \%report;
}

=head2 mirrors_have_ended

    if ($run->mirrors_have_ended($jobs)) { ... }

True where the stack's block jobs were taken over and have ended in sync, and the target's NBD server
has stopped.

=cut

sub mirrors_have_ended {
    my ($self, $jobs) = @_;
    return 0 if $self->state() !~ /\A(?:offered|granted)\z/;
    return !grep { !$self->{jobs}{$_} } keys %$jobs;
}

=head2 settle

The stack's phase 2 died: the guest is brought back to the source, or what became of it is said. Bounded.

=cut

sub settle {
    my ($self) = @_;
    local @SIG{@SIGNALS} = map { ($SIG{$_} // '') eq 'IGNORE' ? 'IGNORE' : sub { } } @SIGNALS;
    if (my $migration = $self->{migration}) {
        my $deadline = _now() + $SETTLE_SECONDS;
        my $is_said = 0;
        while ($migration->phase() ne 'ended' && _now() < $deadline) {
            my $is_cancelled = eval {
                $migration->phase() eq 'handing-over' ? $migration->handed_over('failed')
                    : $migration->cancel();
            };
            if (!$is_cancelled && $self->_guest_stands() && !$is_said++) {
                $self->_log('info', 'the switchover is under way: the interruption waits for QEMU');
            }
            $self->_turn();
        }
        $self->_log_held_lines();
        my $level = $migration->owner() eq 'source' ? 'info' : 'err';
        $self->_log($level, $self->_summary());
    }
    return;
}

=head2 grant

    my $is_granted = $run->grant();

Lets the guest run on the target, before the configuration moves (C<after-resume>). True where it may
run there: nothing may let the source run any more.

=cut

sub grant {
    my ($self) = @_;
    return 0 if $self->{settings}{hand_over} ne 'after-resume' || $self->state() ne 'offered';
    my $migration = $self->{migration};
    $self->{granted} = 1;
    $migration->handed_over('done');
    $self->_run_to_end($FINISH_SECONDS);
    $self->{granted} = 0 if $migration->end() eq 'failed' && $migration->owner() =~ /\A(?:nobody|source)\z/;
    return $self->{granted};
}

sub _run_to_end {
    my ($self, $seconds) = @_;
    my $deadline = _now() + $seconds;
    while ($self->{migration}->phase() ne 'ended' && _now() < $deadline) {
        $self->_turn(int(1000 * ($deadline - _now())) + 1);
    }
    return;
}

=head2 moved

    $run->moved($seconds);

The configuration has moved, which took this long.

=head2 move_failed

    $run->move_failed($error);

It has not. After a grant the source is ended, so that nobody resumes it.

=cut

sub moved {
    my ($self, $seconds) = @_;
    @$self{qw(is_moved move_seconds)} = (1, $seconds);
    return;
}

sub move_failed {
    my ($self, $error) = @_;
    $error =~ s/\s+\z//;
    my ($vmid, $node) = ($self->{vmid}, $self->{stack}{node});
    if ($self->{granted}) {
        my $is_ended = eval {
            QEMU::Switchover::QMP->connect("$MONITOR_FOLDER/$vmid.qmp")->execute('quit');
            1;
        };
        my $source = $is_ended ? 'its QEMU here is ended' : "END its QEMU here, it can't be told to: $@";
        $self->_log('err', "the guest runs on node '$node', $source" =~ s/\s+\z//r);
        $self->_log('err', "its configuration is still on this node ($error): when the cluster can write"
            . " again, move $vmid.conf to the folder of node '$node'");
    } elsif ($self->state() eq 'offered') {
        $self->_log('err', "the configuration did not move ($error): the guest stands, loaded, on node"
            . " '$node', and as it was sent here; settle where its configuration is, then resume it there,"
            . ' or see switchover recover');
    }
    return;
}

=head2 add_forwarding_entries

Lets the bridges of the target know the guest, which the stack's own resume does only for a guest that
stands.

=cut

sub add_forwarding_entries {
    my ($self) = @_;
    return if eval { $self->_add_forwarding_entries(); 1 };
    $self->_log('err', "the guest runs, but its forwarding entries could not be added: $@" =~ s/\s+\z//r);
    $self->{stack}{errors} = 1;
    return;
}

sub _add_forwarding_entries {
    my ($self) = @_;
    my ($vmid, $node) = ($self->{vmid}, (POSIX::uname())[1]);
    ($vmid) = $vmid =~ /\A([0-9]+)\z/ or die "odd VM number\n";
    ($node) = $node =~ /\A([A-Za-z0-9.-]+)\z/ or die "odd node name\n";
    my ($package) = $self->{settings}{forwarding} =~ /\A([A-Za-z:]+)::[a-z_]+\z/;
    my $code = 'my ($vmid, $node) = @ARGV;'
        . 'my $conf = eval { PVE::QemuConfig->load_config($vmid) } // PVE::QemuConfig->load_config($vmid, $node);'
        . "$self->{settings}{forwarding}(\$conf, \$vmid);";
    my @command = (@{ $self->{stack}{rem_ssh} }, 'perl', '-T', '-MPVE::QemuConfig', '-MPVE::QemuServer',
        "-M$package", '-e', "'$code'", $vmid, $node);
    my $pid = fork() // die "no process: $!\n";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for @SIGNALS;
        no warnings 'exec';
        exec({ $command[0] } @command);
        POSIX::_exit(127);
    }
    1 while waitpid($pid, 0) != $pid && $!{EINTR};
    die 'ssh ended with ' . ($? >> 8 || $?) . "\n" if $?;
    return;
}

=head2 resumed

The stack has resumed the guest by its tunnel.

=cut

sub resumed {
    my ($self) = @_;
    $self->{resumed_at} //= _now() if $self->state() eq 'offered';
    return;
}

=head2 conclude

After phase 3: what is left is put in order, the log gets the ledger.

=cut

sub conclude {
    my ($self) = @_;
    my $migration = $self->{migration};
    if ($migration) {
        $migration->handed_over($self->{is_moved} ? 'done' : 'unknown') if $self->state() eq 'offered';
        $self->_run_to_end($FINISH_SECONDS);
        $self->_log_held_lines();
        $self->_log($migration->end() eq 'completed' ? 'info' : 'err', $self->_summary());
        $self->_log_ledger() if $migration->end() eq 'completed';
    }
    return;
}

sub _log_ledger {
    my ($self) = @_;
    my $migration = $self->{migration};
    if (my @parts = $migration->ledger()) {
        my $text = join(', ', map { sprintf('%s %.1f ms', $_->{name}, $_->{length_us} / 1000) } @parts);
        $self->_log('info', "ledger: $text");
        return;
    }
    my ($stopped, $sent, $offered, $resumed) = @$self{qw(stopped_at sent_at offered_at resumed_at)};
    return if grep { !defined } $stopped, $sent, $offered;
    my @parts = (['last RAM and device state', $sent - $stopped], ['mirrors and monitors', $offered - $sent]);
    if (defined $resumed) {
        my $move = $self->{move_seconds} // 0;
        push @parts, ['configuration moved', $move], ['rest of the hand-over, resume', $resumed - $offered - $move];
    }
    my $text = join(', ', map { sprintf('%s %.1f ms', $_->[0], $_->[1] * 1000) } @parts);
    $text .= sprintf('; the guest stood for %.1f ms at most', ($resumed - $stopped) * 1000) if defined $resumed;
    $self->_log('info', "ledger: $text");
    return;
}

=head2 dispose

Lets go of everything. Nothing of a migration that has not ended is changed by that.

=cut

sub dispose {
    my ($self) = @_;
    return if $self->{process} != $$;
    delete $self->{migration};
    delete $self->{loop};
    my $forward = delete $self->{forward};
    $forward->stop() if $forward;
    return;
}

# The library's own summary begins with its name, as our lines do anyway.
sub _summary { return $_[0]->{migration}->summary() =~ s/\Aswitchover: //r }

# Lines that would make a standing guest wait are kept.
sub _log_later {
    my ($self, $level, $text) = @_;
    push @{ $self->{held_lines} }, [$level, $text];
    $self->_log_held_lines() if !$self->_is_before_migrate() && !$self->_guest_stands();
    return;
}

sub _log_held_lines {
    my ($self) = @_;
    while (my $line = shift @{ $self->{held_lines} }) {
        $self->_log(@$line);
    }
    return;
}

sub _log {
    my ($self, $level, $text) = @_;
    $self->{stack}->log($level, "switchover: $text");
    return;
}

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover::QemuServer>

=cut
