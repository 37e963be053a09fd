package QEMU::Switchover::QMP;

use strict;
use warnings;

use Carp ();
use Time::HiRes ();

use QEMU::Switchover ();
use QEMU::Switchover::JSON ();

=encoding utf8

=head1 NAME

QEMU::Switchover::QMP - a client of a QEMU monitor

=head1 SYNOPSIS

    use QEMU::Switchover::QMP;

    my $qmp = QEMU::Switchover::QMP->connect('/run/qemu-server/100.qmp', events => 1);
    print $qmp->execute('query-status')->{status}, "\n";
    $qmp->execute('stop');
    my $event = $qmp->next_event(1000);
    print "$event->{name}\n";

=head1 DESCRIPTION

A connection to one monitor. QEMU talks to one client a monitor at a time, so drop the object when
it is not needed. Integers keep all 64 bits.

=head1 METHODS

=cut

my $DEFAULT_TIMEOUT_MS = 5000;

sub CLONE_SKIP { return 1 }

=head2 connect

    my $qmp = QEMU::Switchover::QMP->connect($address, %options);

Connects (C</path>, C<unix:/path>, C<tcp:host:port> or C<fd:NUMBER>) and waits for the greeting.
Dies with the code C<busy> where another client holds the monitor, else C<connect>, C<protocol> or
C<timeout>. Options:

=over

=item timeout_ms

1 to 600000; default 5000.

=item oob

True asks for out-of-band execution, where QEMU offers it.

=item events

True keeps QMP events for L</next_event>. By default they are kept only where the client shares a
loop.

=item loop

The L<QEMU::Switchover> to belong to; without, the client has one of its own.

=back

=cut

sub connect {
    my ($class, $address, %options) = @_;
    my $loop = delete $options{loop};
    my $self = $class->_open($loop // QEMU::Switchover->new(), $address,
        { events => defined($loop), %options });
    $self->{connecting} = 1;
    $self->{loop}->_pull(undef) while $self->{connecting} && !$self->{closed};
    die $self->{closed} if $self->{closed};
    return $self;
}

sub _open {
    my ($class, $loop, $address, $options) = @_;
    QEMU::Switchover::_check_options($options, qw(timeout_ms oob events));
    my $handle = QEMU::Switchover::_checked(QEMU::Switchover::C::qmp_open($loop->{handle}, $address,
        $options->{oob} ? 1 : 0, $options->{timeout_ms} // $DEFAULT_TIMEOUT_MS));
    my $self = bless {
        handle => $handle, loop => $loop, waiting => {}, submitted => {},
        keeps_events => $options->{events} // 1,
    }, $class;
    $self->{address} = $loop->_enrol($self);
    return $self;
}

sub DESTROY {
    my ($self) = @_;
    $self->{loop}->_strike_off($self->{address}) if $self->{loop} && $self->{address};
    return;
}

# Fills in an event about this client. False where nobody shall see it.
sub _complete_event {
    my ($self, $event, $raw) = @_;
    if ($event->{kind} eq 'qmp-event') {
        return 0 if !$self->{keeps_events};
        @$event{qw(name time_us)} = @$raw{qw(name time_us)};
        $event->{data} = QEMU::Switchover::JSON::decode($raw->{json}) if length $raw->{json};
        return 1;
    }
    if ($event->{kind} eq 'qmp-reply') {
        my $id = $event->{id} = $raw->{id};
        my $is_awaited = exists $self->{waiting}{$id};
        my $command = delete $self->{submitted}{$id};
        return 0 if !$is_awaited && !defined $command;
        $self->_complete_reply($event, $raw, $command // $self->{waiting}{$id}{command});
        return 1 if !$is_awaited;
        $self->{waiting}{$id}{reply} = $event;
        return 0;
    }
    if ($event->{kind} eq 'qmp-closed') {
        my $code = QEMU::Switchover::_word(E => $raw->{code});
        $self->{closed} = $event->{error} =
            QEMU::Switchover::Error->new(code => $code, text => $raw->{text});
        return !$self->{connecting};
    }
    return !delete $self->{connecting};
}

sub _complete_reply {
    my ($self, $event, $raw, $command) = @_;
    if ($raw->{code} == 0) {
        $event->{value} = QEMU::Switchover::JSON::decode($raw->{json});
        return;
    }
    my $code = QEMU::Switchover::_word(E => $raw->{code});
    my $error = length $raw->{json} ? QEMU::Switchover::JSON::decode($raw->{json}) : {};
    my $text =
          $code eq 'qmp' ? "QEMU refused '$command': $error->{desc}"
        : $code eq 'timeout' ? "QEMU did not answer '$command' in time: its outcome is unknown"
        : "the connection ended before '$command' was answered: its outcome is unknown";
    $event->{error} = QEMU::Switchover::Error->new(
        code => $code, text => $text, command => $command, class => $error->{class});
    return;
}

=head2 execute

    my $value = $qmp->execute($command, \%arguments, timeout_ms => 1000, oob => 0);

Sends a command and returns its decoded value. Arguments may be left out or undef. Dies with the
code C<qmp> where QEMU refuses it (C<class> has QEMU's class, C<text> its words), and with
C<timeout> (default 5 s) or C<lost> where the outcome is unknown.

=head2 submit

    my $id = $qmp->submit($command, \%arguments, timeout_ms => 1000, oob => 0);

Sends a command; the loop brings an event C<qmp-reply> with this id.

=cut

sub execute {
    my ($self, $command, $arguments, %options) = @_;
    my $id = $self->_send($command, $arguments, \%options);
    local $self->{waiting}{$id} = { command => $command };
    while (!$self->{waiting}{$id}{reply}) {
        die $self->{closed} if $self->{closed};
        $self->{loop}->_pull(undef);
    }
    my $reply = $self->{waiting}{$id}{reply};
    die $reply->{error} if $reply->{error};
    return $reply->{value};
}

sub submit {
    my ($self, $command, $arguments, %options) = @_;
    my $id = $self->_send($command, $arguments, \%options);
    $self->{submitted}{$id} = $command;
    return $id;
}

sub _send {
    my ($self, $command, $arguments, $options) = @_;
    QEMU::Switchover::_check_options($options, qw(timeout_ms oob));
    Carp::croak('the arguments must be a hash') if defined $arguments && ref $arguments ne 'HASH';
    my $json = defined $arguments ? QEMU::Switchover::JSON::encode($arguments) : undef;
    return QEMU::Switchover::_checked(QEMU::Switchover::C::qmp_submit($self->{handle}, $command, $json,
        $options->{oob} ? 1 : 0, $options->{timeout_ms} // $DEFAULT_TIMEOUT_MS));
}

=head2 next_event

    my $event = $qmp->next_event($timeout_ms);

The next QMP event of this client, as L<QEMU::Switchover/next_event> describes it, or undef after
the time (undef: no limit). Dies when the connection has ended.

=cut

sub next_event {
    my ($self, $timeout_ms) = @_;
    my $is_ours = sub { $_[0]{kind} eq 'qmp-event' && $_[0]{qmp} == $self };
    my $deadline = defined $timeout_ms ? _now_ms() + $timeout_ms : undef;
    while (1) {
        my $event = $self->{loop}->_pick($is_ours);
        return $event if $event;
        die $self->{closed} if $self->{closed};
        my $rest = defined $deadline ? int($deadline - _now_ms()) : undef;
        return if !$self->{loop}->_pull(defined $rest && $rest < 0 ? 0 : $rest)
            && defined $deadline && _now_ms() >= $deadline;
    }
}

sub _now_ms { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) * 1000 }

=head2 pass_fd

    $qmp->pass_fd($name, $handle, timeout_ms => 1000);

Gives QEMU a descriptor under this name, for later use as C<fd:NAME>. Yours stays open. A signal
ends the wait with the code C<interrupted>, the outcome being unknown.

=cut

sub pass_fd {
    my ($self, $name, $handle, %options) = @_;
    QEMU::Switchover::_check_options(\%options, 'timeout_ms');
    my $number = fileno($handle) // Carp::croak('the handle is not open');
    QEMU::Switchover::_checked(QEMU::Switchover::C::qmp_pass_fd($self->{handle}, $name, $number,
        $options{timeout_ms} // $DEFAULT_TIMEOUT_MS));
    return;
}

=head2 version

    my ($major, $minor, $micro) = $qmp->version();

QEMU's version as it greeted, or nothing before that.

=head2 loop

The L<QEMU::Switchover> that the client belongs to.

=cut

sub version {
    my ($self) = @_;
    my $version = QEMU::Switchover::C::qmp_version($self->{handle}) or return;
    return ($version >> 16, $version >> 8 & 255, $version & 255);
}

sub loop { return $_[0]->{loop} }

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover>, L<QEMU::Switchover::Error>

=cut
