package QEMU::Switchover;

use strict;
use warnings;

use Carp ();
use Scalar::Util ();
use XSLoader ();

our $VERSION = '0.1.0';

XSLoader::load(__PACKAGE__, $VERSION);

require QEMU::Switchover::Error;

=encoding utf8

=head1 NAME

QEMU::Switchover - live migration of QEMU virtual machines with the switchover done right

=head1 SYNOPSIS

    use QEMU::Switchover;

    my $loop = QEMU::Switchover->new();
    my $migration = $loop->migration(
        name => 'vm 100',
        source => '/run/qemu-server/100.qmp',
        target => '/run/migration/target.qmp',
        uri => 'unix:/run/migration/ram',
        hand_over => 'before-resume',
        source_end => 'quit',
    );
    $migration->start();
    while (my $stop = $migration->run()) {
        last if $stop eq 'finished';
        move_config_to_target();            # 'hand-over-wanted'
        $migration->handed_over('done');
    }
    die $migration->error() if $migration->error();
    print $migration->summary(), "\n";

=head1 DESCRIPTION

An object of this class is a loop: it carries any number of migrations
(L<QEMU::Switchover::Migration>) and QMP clients (L<QEMU::Switchover::QMP>) behind one descriptor.
Nothing runs in the background: work is done inside L</dispatch>, and inside the methods of the
others that wait. What happened is told as events, which are taken with L</next_event>; no code of
yours is ever called from inside the library.

A method that cannot do what it was asked dies with a L<QEMU::Switchover::Error>. Wrong use (an
option that does not exist, a wrong type) croaks with a plain text.

=head2 Words

Owners, phases, ends and kinds of events are lower-case words with hyphens, as the C header has
them: the owner is C<source>, C<target>, C<nobody> or C<unknown>. A word that this module does not
know comes as C<unknown-NUMBER>; programs must bear with that, as newer libraries have more words.

=head2 Signals and timeouts

A method that waits lets Perl's signal handlers run at least every 100 ms, and they may C<die>:
C<alarm> with a C<die>, or C<< local $SIG{INT} = sub { die ... } >>, work as everywhere. After that
everything is as it was: a migration goes on when it is waited for again, and can be cancelled or
asked for its state. Only QMP commands under way are lost: what became of them is unknown.

=head2 Forks and threads

After a fork the child may only drop what it inherited, which sends nothing; the parent goes on as
if nothing had been. Anything else dies with the code C<forked>. Objects are not copied into new
threads of Perl: there they are references to nothing.

=head2 Taint mode

Texts that come from a QEMU are tainted under C<-T>, the decoded replies and events of a QMP client
included.

=head1 METHODS

=cut

my $CONSTANTS = QEMU::Switchover::C::constants();

# The words of one kind by number; the header's constants are the only list.
my %WORD_OF;
for my $kind (qw(E SIDE OWNER GUEST PHASE END EVENT NUMBER FAILURE)) {
    for my $name (grep { /\A\Q$kind\E_/ } keys %$CONSTANTS) {
        $WORD_OF{$kind}{ $CONSTANTS->{$name} } = lc(substr($name, length($kind) + 1)) =~ tr/_/-/r;
    }
}

# QMP events that wait untaken in one loop; beyond this the oldest is dropped.
my $HIGHEST_EVENT_COUNT = 4096;

# The word for a number of this kind.
sub _word {
    my ($kind, $number) = @_;
    return $WORD_OF{$kind}{$number} // "unknown-$number";
}

# The number for one of these words; croaks for others, naming the option.
sub _number {
    my ($option, $word, $kind, @words) = @_;
    for my $known (@words) {
        return $CONSTANTS->{ "${kind}_" . uc($known =~ tr/-/_/r) } if defined($word) && $word eq $known;
    }
    Carp::croak("$option must be one of " . join(', ', @words) . ", not '" . ($word // '') . "'");
}

# What a call answered, unless that is the code of a failure.
sub _checked {
    my ($answer) = @_;
    return $answer if ref $answer || !defined $answer || $answer >= 0;
    die QEMU::Switchover::Error->new(
        code => _word(E => $answer), text => QEMU::Switchover::C::last_error());
}

# Croaks where an option is not among the known ones.
sub _check_options {
    my ($options, @known) = @_;
    my %known = map { $_ => 1 } @known;
    my @unknown = sort grep { !$known{$_} } keys %$options;
    Carp::croak("there is no option '$unknown[0]'") if @unknown;
    return;
}

sub CLONE_SKIP { return 1 }
sub QEMU::Switchover::C::Loop::CLONE_SKIP { return 1 }
sub QEMU::Switchover::C::Migration::CLONE_SKIP { return 1 }
sub QEMU::Switchover::C::QMP::CLONE_SKIP { return 1 }

=head2 new

    my $loop = QEMU::Switchover->new();

Makes a loop.

=cut

sub new {
    my ($class) = @_;
    my $handle = _checked(QEMU::Switchover::C::loop_new());
    return bless { handle => $handle, queue => [], members => {} }, $class;
}

=head2 set_ssh

    $loop->set_ssh(carrier => 'auto', command => ['ssh', '-F', $file], login_ms => 10_000);

Sets how addresses C<ssh://[user@]host[:port]/path> are reached by what is started in this loop from
then on; each option may be left out. C<carrier> is C<auto> (libssh2 carries the monitor where it can
log in, the system's ssh memory and disks, and each the other's part), C<libssh2> or C<system>.
C<command> is the ssh command, program and options, at most 128 words; both carriers follow what ssh's
configuration says under it. C<login_ms>, 100 to 600000, bounds each step of a login.

=cut

sub set_ssh {
    my ($self, %options) = @_;
    _check_options(\%options, qw(carrier command login_ms));
    my $carrier = _number('carrier', $options{carrier} // 'auto', 'SSH', qw(auto libssh2 system));
    _checked(QEMU::Switchover::C::loop_set_ssh(
        $self->{handle}, $carrier, $options{command}, $options{login_ms} // 0));
    return;
}

=head2 migration

    my $migration = $loop->migration(%options);

Makes a migration in this loop; L<QEMU::Switchover::Migration> lists the options.

=cut

sub migration {
    my ($self, %options) = @_;
    require QEMU::Switchover::Migration;
    return QEMU::Switchover::Migration->_new($self, \%options);
}

=head2 qmp

    my $qmp = $loop->qmp($address, %options);

Starts to connect to a monitor and returns the L<QEMU::Switchover::QMP> at once; an event
C<qmp-ready> or C<qmp-closed> follows. The options are those of L<QEMU::Switchover::QMP/connect>.

=cut

sub qmp {
    my ($self, $address, %options) = @_;
    require QEMU::Switchover::QMP;
    return QEMU::Switchover::QMP->_open($self, $address, \%options);
}

=head2 fd

    my $number = $loop->fd();

The one descriptor to watch for reading, in whatever event loop you have: it is readable exactly
while C<dispatch(0)> would do something or the library holds an event. It belongs to the loop: don't
close it, and don't make a Perl handle of it (rather than of a duplicate) that would.

When it is readable, call C<dispatch(0)> and take events until none is left:

    # IO::Poll
    open(my $handle, '<&', $loop->fd()) or die;       # a duplicate serves as well
    $poll->mask($handle => POLLIN);

    # AnyEvent
    my $watcher = AnyEvent->io(fh => $loop->fd(), poll => 'r', cb => sub {
        $loop->dispatch(0);
        while (my $event = $loop->next_event()) { ... }
    });

    # EV
    my $watcher = EV::io($loop->fd(), EV::READ, sub { ... the same ... });

The methods of a QMP client that wait take events out of the library while they do; so after one of
those take events once, without asking the descriptor.

=cut

sub fd {
    my ($self) = @_;
    return _checked(QEMU::Switchover::C::loop_fd($self->{handle}));
}

=head2 dispatch

    my $count = $loop->dispatch($timeout_ms);

Works until an event waits to be taken, or until the time has passed: 0 does what can be done at
once, undef waits without limit. Returns the number of events that wait.

=cut

sub dispatch {
    my ($self, $timeout_ms) = @_;
    my $held = @{ $self->{queue} };
    $timeout_ms = 0 if $held;
    return $held + _checked(QEMU::Switchover::C::loop_dispatch($self->{handle}, $timeout_ms));
}

=head2 next_event

    my $event = $loop->next_event();

Takes the oldest event, a hash, or returns undef where none waits. It never waits itself. Every
event has its C<kind>, and the C<migration> or C<qmp> that it is about (undef once that is dropped).
By kind:

=over

=item phase

C<phase>: the one that the migration has entered: C<connecting>, C<preflight>, C<preparing>,
C<mirroring>, C<transferring>, C<switching-over>, C<handing-over>, C<activating>, C<finishing>,
C<undoing>, C<ended>.

=item progress

The migration's numbers have changed. Only the newest waits.

=item hand-over-wanted

Answer with L<QEMU::Switchover::Migration/handed_over>.

=item warning, log

C<text>: a line for a person, or for a log.

=item finished

The migration has ended.

=item qmp-ready

The client is connected.

=item qmp-reply

C<id>: what C<submit> returned. Either C<value>, or C<error>, a L<QEMU::Switchover::Error>.

=item qmp-event

C<name>, C<data> and C<time_us> (QEMU's own clock, microseconds since 1970, 0 where there is none).

=item qmp-closed

C<error>: why.

=back

At most 4096 events of kind C<qmp-event> are kept for you; of more, the oldest are dropped.

=cut

sub next_event {
    my ($self) = @_;
    while (!@{ $self->{queue} }) {
        $self->_take_one() or return;
    }
    my $event = shift @{ $self->{queue} };
    $self->{held_qmp_events}-- if $event->{kind} eq 'qmp-event';
    return $event;
}

# Waits for events and moves them into the queue; false after the time.
sub _pull {
    my ($self, $timeout_ms) = @_;
    _checked(QEMU::Switchover::C::loop_dispatch($self->{handle}, $timeout_ms)) or return 0;
    1 while $self->_take_one();
    return 1;
}

# Takes one event out of the library; false where there was none.
sub _take_one {
    my ($self) = @_;
    my $raw = _checked(QEMU::Switchover::C::loop_next_event($self->{handle})) // return 0;
    my $event = { kind => _word(EVENT => $raw->{kind}) };
    for my $member (qw(migration qmp)) {
        $event->{$member} = $self->{members}{ $raw->{$member} } if $raw->{$member};
    }
    my $belongs_to_client = $event->{kind} =~ /\Aqmp-/;
    if ($belongs_to_client) {
        $event->{qmp} && $event->{qmp}->_complete_event($event, $raw) or return 1;
    } elsif ($event->{kind} eq 'phase') {
        $event->{phase} = _word(PHASE => $raw->{phase});
    } elsif ($event->{kind} eq 'warning' || $event->{kind} eq 'log') {
        $event->{text} = $raw->{text};
    }
    push @{ $self->{queue} }, $event;
    $self->_limit_queue() if $event->{kind} eq 'qmp-event';
    return 1;
}

sub _limit_queue {
    my ($self) = @_;
    return if ++$self->{held_qmp_events} <= $HIGHEST_EVENT_COUNT;
    my $queue = $self->{queue};
    my ($oldest) = grep { $queue->[$_]{kind} eq 'qmp-event' } 0 .. $#$queue;
    splice(@$queue, $oldest, 1);
    $self->{held_qmp_events}--;
    return;
}

# Takes the first event that matches out of the queue.
sub _pick {
    my ($self, $matches) = @_;
    my $queue = $self->{queue};
    for my $index (0 .. $#$queue) {
        next if !$matches->($queue->[$index]);
        $self->{held_qmp_events}-- if $queue->[$index]{kind} eq 'qmp-event';
        return splice(@$queue, $index, 1);
    }
    return;
}

# Makes events about this handle find their object.
sub _enrol {
    my ($self, $object) = @_;
    my $address = QEMU::Switchover::C::address($object->{handle});
    Scalar::Util::weaken($self->{members}{$address} = $object);
    return $address;
}

sub _strike_off {
    my ($self, $address) = @_;
    delete $self->{members}{$address};
    return;
}

=head1 FUNCTIONS

=head2 library_version

    my $text = QEMU::Switchover::library_version();

The version of the library that is loaded, such as "0.1.0".

=cut

sub library_version { return QEMU::Switchover::C::version_string() }

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover::Migration>, L<QEMU::Switchover::QMP>, L<QEMU::Switchover::Error>,
F<switchover.h>

=cut
