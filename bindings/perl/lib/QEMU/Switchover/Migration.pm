package QEMU::Switchover::Migration;

use strict;
use warnings;

use Carp ();

use QEMU::Switchover ();

=encoding utf8

=head1 NAME

QEMU::Switchover::Migration - one migration of one virtual machine

=head1 SYNOPSIS

    my $migration = $loop->migration(source => ..., target => ..., uri => ..., hand_over => 'none',
        source_end => 'quit');
    $migration->start();
    $migration->run() until $migration->phase() eq 'ended';
    die $migration->error() if $migration->error();

=head1 OPTIONS

A migration is made by L<QEMU::Switchover/migration>. Required are C<source>, C<target>, C<uri> and
C<source_end> (that not with an external hand-over).

=over

=item source, target

The addresses of both monitors: C</path>, C<unix:/path>, C<tcp:host:port> or C<fd:NUMBER>.

=item source_sharing

C<shared> where other programs use the source's monitor too: they are let in as long as the guest allows
it. C<exclusive> (default) keeps it from the start to the end.

=item oob

A second monitor of the source, for out-of-band commands: it breaks a disk connection that stalls
while the guest stands.

=item uri, incoming_uri

Where the source sends the state, as QEMU writes it, and where a target that was started with
C<-incoming defer> shall listen, if that is another address.

=item name

A name for texts, such as C<vm 100>.

=item hand_over

When ownership moves in your cluster: C<before-resume> (default), C<after-resume>, C<none> or
C<external> (you resume the target yourself).

=item source_end

What becomes of the source's QEMU when the target runs: C<quit> or C<keep>. There is no default: a
source that is left standing can be resumed by anybody.

=item downtime_limit_ms, highest_downtime_limit_ms

QEMU's C<downtime-limit> at the start, and how far it may be raised (default 2000000; 0: not at
all).

=item bandwidth

Bytes a second; 0 (default) is no limit.

=item capabilities, parameters

Hashes: capabilities (true or false) and parameters of the migration, for both sides.

=item nbd, nbd_listen

The source's way to the target's NBD server, and where the target shall start one (without: it runs
already).

=item disks

A list of hashes, one a local disk. Either the library mirrors it: C<device>, C<export>, and
optionally C<target_node> and C<bandwidth>. Or it takes over a mirror that runs: C<device>, C<job>,
and optionally C<write_blocking> (true where it was started so) and C<node> (the NBD client's node).

=item sync_deadline_ms, transfer_deadline_ms

How long mirrors may take to get in sync, and memory from C<migrate> to the switchover; 0 (default)
is no limit.

=item sync_policy

What to do when mirrors are not in sync by then: C<fail> (default), C<wait>, or C<throttle>, with which
each write of the guest waits until the target has it.

=item yank_ms, drain_ms

How long the guest may stand before a stalled disk connection is broken (default 2000), and mirrors
may take to end at the switchover before it is called off (default 5000).

=item fast_order

False forbids the order with one round trip less.

=item journal

The path of a journal for recovery.

=item connect_ms, reconnect_ms

How long to wait for a monitor at the start (default 5000) and when it was lost (default 30000).

=back

=head1 METHODS

=cut

# Options that are one text for one function.
my %TEXT_OPTION = (
    name => \&QEMU::Switchover::C::migration_set_name,
    oob => \&QEMU::Switchover::C::migration_set_oob_monitor,
    uri => \&QEMU::Switchover::C::migration_set_uri,
    incoming_uri => \&QEMU::Switchover::C::migration_set_incoming_uri,
    journal => \&QEMU::Switchover::C::migration_set_journal,
    bandwidth => \&QEMU::Switchover::C::migration_set_bandwidth,
    sync_deadline_ms => \&QEMU::Switchover::C::migration_set_sync_deadline,
    transfer_deadline_ms => \&QEMU::Switchover::C::migration_set_transfer_deadline,
);

# Two options that one function takes; the defaults are the library's own.
my @PAIRED_OPTIONS = (
    [\&QEMU::Switchover::C::migration_set_storage_limits, yank_ms => 2000, drain_ms => 5000],
    [\&QEMU::Switchover::C::migration_set_monitor_deadlines,
        connect_ms => 5000, reconnect_ms => 30_000],
);

my @OTHER_OPTIONS = qw(source target hand_over source_end downtime_limit_ms
    highest_downtime_limit_ms capabilities parameters nbd nbd_listen disks fast_order
    sync_policy source_sharing);
my $HIGHEST_DOWNTIME_LIMIT_MS = 2_000_000;

my @NUMBERS = qw(ram_total_bytes ram_transferred_bytes ram_remaining_bytes rate_bytes_per_second pass
    dirty_bytes_per_second downtime_limit_ms predicted_blackout_us qemu_downtime_ms blackout_us
    blackout_error_us total_time_ms);

sub CLONE_SKIP { return 1 }

sub _new {
    my ($class, $loop, $options) = @_;
    my @paired = map { @$_[1, 3] } @PAIRED_OPTIONS;
    QEMU::Switchover::_check_options($options, keys %TEXT_OPTION, @paired, @OTHER_OPTIONS);
    my $handle = QEMU::Switchover::_checked(QEMU::Switchover::C::migration_new($loop->{handle}));
    my $self = bless { handle => $handle, loop => $loop }, $class;
    $self->{address} = $loop->_enrol($self);
    $self->_apply($options);
    $self->_apply_disks($options->{disks}) if defined $options->{disks};
    return $self;
}

sub DESTROY {
    my ($self) = @_;
    $self->{loop}->_strike_off($self->{address}) if $self->{loop} && $self->{address};
    return;
}

sub _apply {
    my ($self, $options) = @_;
    my $set = sub {
        my ($function, @values) = @_;
        QEMU::Switchover::_checked($function->($self->{handle}, @values));
    };
    for my $side (grep { defined $options->{$_} } qw(source target)) {
        $set->(\&QEMU::Switchover::C::migration_set_monitor, _side($side), $options->{$side});
    }
    for my $name (grep { defined $options->{$_} } sort keys %TEXT_OPTION) {
        $set->($TEXT_OPTION{$name}, $options->{$name});
    }
    for my $pair (@PAIRED_OPTIONS) {
        my ($function, $first, $first_default, $second, $second_default) = @$pair;
        next if !grep { defined $options->{$_} } $first, $second;
        $set->($function, $options->{$first} // $first_default, $options->{$second} // $second_default);
    }
    if (defined $options->{hand_over}) {
        $set->(\&QEMU::Switchover::C::migration_set_hand_over, QEMU::Switchover::_number(
            'hand_over', $options->{hand_over}, 'HAND_OVER',
            qw(before-resume after-resume none external)));
    }
    if (defined $options->{source_end}) {
        $set->(\&QEMU::Switchover::C::migration_set_source_end, QEMU::Switchover::_number(
            'source_end', $options->{source_end}, 'SOURCE', qw(quit keep)));
    }
    if (defined $options->{sync_policy}) {
        $set->(\&QEMU::Switchover::C::migration_set_sync_policy, QEMU::Switchover::_number(
            'sync_policy', $options->{sync_policy}, 'SYNC', qw(fail wait throttle)));
    }
    if (defined $options->{source_sharing}) {
        $set->(\&QEMU::Switchover::C::migration_set_monitor_sharing, _side('source'),
            QEMU::Switchover::_number('source_sharing', $options->{source_sharing}, 'MONITOR',
                qw(exclusive shared)));
    }
    if (defined(my $limit = $options->{downtime_limit_ms})) {
        my $highest = $options->{highest_downtime_limit_ms} // $HIGHEST_DOWNTIME_LIMIT_MS;
        $set->(\&QEMU::Switchover::C::migration_set_downtime_limit, $limit, $highest);
    } elsif (defined $options->{highest_downtime_limit_ms}) {
        Carp::croak('highest_downtime_limit_ms needs downtime_limit_ms');
    }
    my $capabilities = $options->{capabilities} // {};
    for my $name (sort keys %$capabilities) {
        $set->(\&QEMU::Switchover::C::migration_set_capability, $name, $capabilities->{$name} ? 1 : 0);
    }
    my $parameters = $options->{parameters} // {};
    for my $name (sort keys %$parameters) {
        require QEMU::Switchover::JSON;
        my $json = QEMU::Switchover::JSON::encode($parameters->{$name});
        $set->(\&QEMU::Switchover::C::migration_set_parameter, $name, $json);
    }
    if (defined $options->{nbd}) {
        $set->(\&QEMU::Switchover::C::migration_set_nbd, $options->{nbd}, $options->{nbd_listen});
    } elsif (defined $options->{nbd_listen}) {
        Carp::croak('nbd_listen needs nbd');
    }
    if (defined $options->{fast_order}) {
        $set->(\&QEMU::Switchover::C::migration_set_fast_order, $options->{fast_order} ? 1 : 0);
    }
    return;
}

sub _apply_disks {
    my ($self, $disks) = @_;
    for my $disk (@$disks) {
        if (defined $disk->{job}) {
            QEMU::Switchover::_check_options($disk, qw(device job write_blocking node));
            QEMU::Switchover::_checked(QEMU::Switchover::C::migration_take_over_mirror(
                $self->{handle}, $disk->{device}, $disk->{job}, $disk->{write_blocking} ? 1 : 0,
                $disk->{node}));
        } else {
            QEMU::Switchover::_check_options($disk, qw(device export target_node bandwidth));
            QEMU::Switchover::_checked(QEMU::Switchover::C::migration_add_disk(
                $self->{handle}, $disk->{device}, $disk->{export}, $disk->{target_node},
                $disk->{bandwidth} // 0));
        }
    }
    return;
}

sub _side {
    my ($side) = @_;
    return QEMU::Switchover::_number('side', $side, 'SIDE', qw(source target));
}

sub _call {
    my ($self, $function, @values) = @_;
    return QEMU::Switchover::_checked($function->($self->{handle}, @values));
}

=head2 start

    $migration->start();

Starts it. Everything further happens in L</run>, or in the loop's C<dispatch>.

=head2 check

    $migration->check();

Starts it likewise, but it ends before anything is changed: C<completed> means that nothing speaks
against this migration.

=cut

sub start {
    my ($self) = @_;
    $self->_call(\&QEMU::Switchover::C::migration_start);
    return;
}

sub check {
    my ($self) = @_;
    $self->_call(\&QEMU::Switchover::C::migration_check);
    return;
}

=head2 run

    my $stop = $migration->run($timeout_ms);

Works until the migration has ended (returns C<finished>), until a hand-over is wanted
(C<hand-over-wanted>, said once), or until the time has passed (undef, which a missing time never
is). The loop's other work goes on meanwhile, and events wait to be taken.

=cut

my %STOP = (1 => 'finished', 2 => 'hand-over-wanted');

sub run {
    my ($self, $timeout_ms) = @_;
    return $STOP{ $self->_call(\&QEMU::Switchover::C::migration_run, $timeout_ms) };
}

=head2 cancel

    my $sent = $migration->cancel();

Asks for an end with the guest on the source. False past the point of no return; the migration then
goes on. Wait for the end in both cases: it alone says what became of it.

=cut

sub cancel {
    my ($self) = @_;
    my $answer = QEMU::Switchover::C::migration_cancel($self->{handle});
    return 0 if QEMU::Switchover::_word(E => $answer) eq 'too-late';
    QEMU::Switchover::_checked($answer);
    return 1;
}

=head2 handed_over

    $migration->handed_over('done');

Answers C<hand-over-wanted>: C<done>; C<failed>, where ownership is certainly still with the source;
or C<unknown>.

=head2 handed_back

    $migration->handed_back();

Says that ownership is back with the source after a hand-over that was done, so that the source may
be resumed when the target is proven unable to run.

=head2 fenced

    $migration->fenced('source');

Your word that this side (C<source> or C<target>) is fenced: it cannot run now, nor later by itself.

=cut

sub handed_over {
    my ($self, $result) = @_;
    $self->_call(\&QEMU::Switchover::C::migration_handed_over, QEMU::Switchover::_number(
        'the result', $result, 'HAND_OVER', qw(done failed unknown)));
    return;
}

sub handed_back {
    my ($self) = @_;
    $self->_call(\&QEMU::Switchover::C::migration_handed_back);
    return;
}

sub fenced {
    my ($self, $side) = @_;
    $self->_call(\&QEMU::Switchover::C::migration_fenced, _side($side));
    return;
}

=head2 change_downtime_limit

    $migration->change_downtime_limit(400);

Changes QEMU's C<downtime-limit>, milliseconds, while memory travels (phase C<transferring>; else it
dies with the code C<state>), where you have a ramp of your own.

=cut

sub change_downtime_limit {
    my ($self, $limit_ms) = @_;
    $self->_call(\&QEMU::Switchover::C::migration_change_downtime_limit, $limit_ms);
    return;
}

=head2 phase

=head2 end

=head2 owner

=head2 guest

    my $word = $migration->phase();

Where it stands: the phase; the end (C<none>, C<completed>, C<cancelled>, C<failed>, C<unknown>);
who may run the guest (C<source>, C<target>, C<nobody>, C<unknown>); and how the guest is
(C<running>, C<paused>, C<off>, C<unknown>).

=cut

sub phase { return $_[0]->_word_of('PHASE', \&QEMU::Switchover::C::migration_phase) }
sub end { return $_[0]->_word_of('END', \&QEMU::Switchover::C::migration_end) }
sub owner { return $_[0]->_word_of('OWNER', \&QEMU::Switchover::C::migration_owner) }
sub guest { return $_[0]->_word_of('GUEST', \&QEMU::Switchover::C::migration_guest) }

sub _word_of {
    my ($self, $kind, $function) = @_;
    return QEMU::Switchover::_word($kind, $self->_call($function));
}

=head2 number

    my $value = $migration->number('blackout_us');

One figure, or undef while it is not known: C<ram_total_bytes>, C<ram_transferred_bytes>,
C<ram_remaining_bytes>, C<rate_bytes_per_second>, C<pass>, C<dirty_bytes_per_second>,
C<downtime_limit_ms> (in force now), C<predicted_blackout_us>, C<qemu_downtime_ms> (QEMU's own
figure, after the end), C<blackout_us> (the source's STOP to the target's RESUME),
C<blackout_error_us> (how far that can be off), C<total_time_ms>.

=head2 numbers

    my $numbers = $migration->numbers();

All figures that are known, as a hash.

=cut

sub number {
    my ($self, $name) = @_;
    my $number = QEMU::Switchover::_number('the number', $name, 'NUMBER', @NUMBERS);
    return QEMU::Switchover::C::migration_number($self->{handle}, $number);
}

sub numbers {
    my ($self) = @_;
    my %numbers;
    for my $name (@NUMBERS) {
        my $value = $self->number($name);
        $numbers{$name} = $value if defined $value;
    }
    return \%numbers;
}

=head2 report

    my $report = $migration->report();

The source's last answer to C<query-migrate>, decoded, in QEMU's own words; undef before the first.

=cut

sub report {
    my ($self) = @_;
    my $text = QEMU::Switchover::C::migration_report($self->{handle});
    return if $text eq '';
    require QEMU::Switchover::JSON;
    return QEMU::Switchover::JSON::decode($text);
}

=head2 ledger

    for my $part ($migration->ledger()) {
        printf "%s: %d us\n", @$part{qw(name length_us)};
    }

Where the blackout went, after the end: hashes with C<name>, C<start_us> (after the source's STOP)
and C<length_us>.

=head2 disks

The local disks: hashes with C<device>, C<done_bytes> and C<total_bytes>.

=cut

sub ledger {
    my ($self) = @_;
    my $count = $self->_call(\&QEMU::Switchover::C::migration_ledger_count);
    return map {
        my %part;
        @part{qw(name start_us length_us)} = QEMU::Switchover::C::migration_ledger_part($self->{handle}, $_);
        \%part;
    } 0 .. $count - 1;
}

sub disks {
    my ($self) = @_;
    my $count = $self->_call(\&QEMU::Switchover::C::migration_disk_count);
    return map {
        my %disk;
        @disk{qw(device done_bytes total_bytes)} = QEMU::Switchover::C::migration_disk($self->{handle}, $_);
        \%disk;
    } 0 .. $count - 1;
}

=head2 error

    die $migration->error() if $migration->error();

A L<QEMU::Switchover::Error> where the migration has ended and did not complete; else undef.

=head2 next_step

The safe next step, "" where there is none to take.

=head2 summary

All of it in one line, for a log; also after a success.

=cut

sub error {
    my ($self) = @_;
    my $end = $self->end();
    return if $end eq 'none' || $end eq 'completed';
    my $handle = $self->{handle};
    return QEMU::Switchover::Error->new(
        code => $end,
        text => $self->summary(),
        failure => QEMU::Switchover::_word(FAILURE => QEMU::Switchover::C::migration_failure($handle)),
        side => QEMU::Switchover::_word(SIDE => QEMU::Switchover::C::migration_failure_side($handle)),
        command => QEMU::Switchover::C::migration_failure_command($handle),
        class => QEMU::Switchover::C::migration_failure_class($handle),
        owner => $self->owner(),
        guest => $self->guest(),
        next_step => $self->next_step(),
    );
}

sub next_step { return QEMU::Switchover::C::migration_next_step($_[0]->{handle}) }
sub summary { return QEMU::Switchover::C::migration_summary($_[0]->{handle}) }

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover>, L<QEMU::Switchover::Error>

=cut
