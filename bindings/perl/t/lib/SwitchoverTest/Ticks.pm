# What a guest says on its serial port, with the time of each arrival: the guest's own view of a
# migration, taken from outside.
package SwitchoverTest::Ticks;

use strict;
use warnings;

use IO::Socket::UNIX;

# Listens where the guest's QEMU will connect to.
sub new {
    my ($class, $loop, $path) = @_;
    my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 1)
        or die "can't listen on '$path': $!\n";
    my $self = bless { loop => $loop, path => $path, listener => $listener, text => '' }, $class;
    $loop->watch($listener, sub { $self->_accept() });
    return $self;
}

sub _accept {
    my ($self) = @_;
    my $connection = $self->{connection} = $self->{listener}->accept() or return;
    $self->{loop}->watch($connection, sub { $self->_read($_[0]) });
    return;
}

sub _read {
    my ($self, $time) = @_;
    my $count = sysread($self->{connection}, $self->{text}, 65536, length $self->{text});
    if (!$count) {
        $self->{loop}->forget($self->{connection});
        close(delete $self->{connection});
        return;
    }
    $self->{first} //= $time;
    $self->{last} = $time;
    return;
}

sub close_all {
    my ($self) = @_;
    for my $name (qw(listener connection)) {
        my $handle = delete $self->{$name} // next;
        $self->{loop}->forget($handle);
        close($handle);
    }
    unlink($self->{path});
    return;
}

sub first { return $_[0]->{first} }
sub last { return $_[0]->{last} }
sub text { return $_[0]->{text} }
sub count { return ($_[0]->{text} =~ tr/\n//) }

# Serves the loop until the guest has ticked this often more.
sub wait_for {
    my ($self, $count) = @_;
    my $goal = $self->count() + $count;
    $self->{loop}->run_until(60, "$count ticks", sub { $self->count() >= $goal });
    return;
}

# Whether no guest has run here that came from the source. Where nobody had read for a while, the serial port
# had one or two characters in hand, which come with the state: QEMU writes them out even when the guest stands.
sub never_ran {
    my ($target, $source) = @_;
    return length($target->{text}) <= 2 && index($source->{text}, $target->{text}) >= 0;
}

# Milliseconds between the last sign of life at the source and the first at the target.
sub gap_milliseconds {
    my ($source, $target) = @_;
    return ($target->{first} - $source->{last}) * 1000;
}

# Undef where the guest's whole life, from this place to the next, is one unbroken count; else what
# is wrong with it. Two running guests, a lost or a repeated byte cannot pass.
sub interruption {
    my (@places) = @_;
    my @lines = split /\n/, join('', map { $_->{text} } @places), -1;
    pop @lines;
    my $expected = 1;
    for my $line (@lines) {
        my $wanted = sprintf('%08x', $expected);
        return "'$line' where '$wanted' was due" if $line ne $wanted;
        $expected++;
    }
    return;
}

1;
