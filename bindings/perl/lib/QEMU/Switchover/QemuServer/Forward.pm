package QEMU::Switchover::QemuServer::Forward;

use strict;
use warnings;

use File::Path ();
use File::Temp ();
use POSIX ();
use Time::HiRes ();

=encoding utf8

=head1 NAME

QEMU::Switchover::QemuServer::Forward - another node's socket, forwarded by the stack's own ssh

=head1 SYNOPSIS

    my $forward = QEMU::Switchover::QemuServer::Forward->start($rem_ssh, '/run/qemu-server/100.qmp');
    connect_to($forward->path());
    $forward->stop();

=head1 DESCRIPTION

Internal. A child process holds the ssh connection, and ends it when this object, or the process that
has it, is gone, even by SIGKILL. It shares no descriptor of its parent but one pipe, and signals to
the parent's group do not reach it.

=head1 METHODS

=cut

my $PARENT_FOLDER = '/run/switchover';
my $START_SECONDS = 20;
my $END_SECONDS = 5;

=head2 start

Starts ssh with the words of the array C<rem_ssh> and waits until the socket can be used. Dies with
what ssh said, and leaves nothing behind then.

=cut

sub start {
    my ($class, $rem_ssh, $remote_path) = @_;
    mkdir($PARENT_FOLDER, 0700);
    my $folder = File::Temp::tempdir('forward-XXXXXXXX', DIR => $PARENT_FOLDER);
    my $self = bless { folder => $folder, owner => $$ }, $class;
    pipe(my $life_read, my $life_write) or die "no pipe: $!\n";
    my @command = (@$rem_ssh, '-o', 'ExitOnForwardFailure=yes', '-N',
        '-L', $self->path() . ":$remote_path");
    my $pid = fork() // die "no process: $!\n";
    if (!$pid) {
        eval { _hold($life_read, "$folder/ssh.log", \@command) };
        POSIX::_exit(1);
    }
    @$self{qw(pid life)} = ($pid, $life_write);
    $self->_await_socket();
    return $self;
}

=head2 path

The local socket.

=cut

sub path { return "$_[0]->{folder}/target.qmp" }

sub _await_socket {
    my ($self) = @_;
    my $deadline = _now() + $START_SECONDS;
    while (!-S $self->path()) {
        die 'ssh ended: ' . $self->_words_of_ssh() . "\n" if $self->_has_ended();
        die "ssh forwards nothing after $START_SECONDS s\n" if _now() >= $deadline;
        Time::HiRes::sleep(0.01);
    }
    return;
}

# The last line that ssh wrote, for a person.
sub _words_of_ssh {
    my ($self) = @_;
    open(my $log, '<', "$self->{folder}/ssh.log") or return 'it says nothing';
    my @lines = grep { /\S/ } <$log>;
    my $line = @lines ? $lines[-1] : 'it says nothing';
    $line =~ s/[^[:print:]]+/ /g;
    $line =~ s/\s+\z//;
    return substr($line, 0, 200);
}

sub _has_ended {
    my ($self) = @_;
    my $answer = waitpid($self->{pid}, POSIX::WNOHANG());
    delete $self->{pid} if $answer;
    return !defined $self->{pid};
}

=head2 stop

Ends ssh and removes the socket. Does nothing the second time.

=cut

sub stop {
    my ($self) = @_;
    return if $self->{owner} != $$;
    local ($@, $?, $!);
    close(delete $self->{life}) if $self->{life};
    my $deadline = _now() + $END_SECONDS;
    while (defined $self->{pid} && !$self->_has_ended()) {
        kill('KILL', $self->{pid}) if _now() >= $deadline;
        Time::HiRes::sleep(0.005);
    }
    File::Path::remove_tree(delete $self->{folder}) if $self->{folder};
    return;
}

sub DESTROY { return $_[0]->stop() }

sub _now { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

# The child: runs ssh until the pipe ends or ssh does.
sub _hold {
    my ($life, $log, $command) = @_;
    $SIG{$_} = 'DEFAULT' for qw(CHLD INT TERM QUIT HUP PIPE ALRM);
    POSIX::setsid();
    my $number = fileno($life);
    # Perl's own descriptors close with exec, but this process does not exec.
    opendir(my $descriptors, '/proc/self/fd') or return;
    my @open = map { /\A(\d+)\z/ ? $1 : () } readdir($descriptors);
    closedir($descriptors);
    for my $descriptor (@open) {
        POSIX::close($descriptor) if $descriptor > 2 && $descriptor != $number;
    }
    my $null = POSIX::open('/dev/null', POSIX::O_RDWR());
    my $words = POSIX::open($log, POSIX::O_WRONLY() | POSIX::O_CREAT() | POSIX::O_APPEND(), 0600);
    POSIX::dup2($null, 0);
    POSIX::dup2($words, $_) for 1, 2;
    $ENV{PATH} = '/usr/sbin:/usr/bin:/sbin:/bin';
    delete @ENV{qw(IFS CDPATH ENV BASH_ENV)};
    my $ssh = fork() // return;
    if (!$ssh) {
        no warnings 'exec';
        exec({ $command->[0] } @$command);
        print STDERR "$command->[0] can't be run: $!\n";
        POSIX::_exit(127);
    }
    while (1) {
        my $readable = '';
        vec($readable, $number, 1) = 1;
        my $ready = select($readable, undef, undef, 0.2);
        return if waitpid($ssh, POSIX::WNOHANG()) != 0;
        last if $ready > 0;
    }
    kill('TERM', $ssh);
    waitpid($ssh, 0);
    return;
}

1;

__END__

=head1 SEE ALSO

L<QEMU::Switchover::QemuServer>

=cut
