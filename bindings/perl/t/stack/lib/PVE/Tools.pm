# What every part of the stack needs: commands, locks, untainting, sizes.
package PVE::Tools;

use strict;
use warnings;

use Exporter 'import';
use Fcntl qw(:flock);
use File::Path ();
use IO::Poll ();
use POSIX ();
use Time::HiRes ();

our @EXPORT_OK = qw(
    run_command spawn reap has_listener lock_file run_with_timeout untaint nodename render_bytes
    read_file write_file
);

# The only environment that commands of a tainted worker get.
our $SAFE_PATH = '/run/stack/bin:/usr/sbin:/usr/bin:/sbin:/bin';

# The value, accepted as far as the pattern goes; dies where it does not match as a whole.
sub untaint {
    my ($value, $pattern, $what) = @_;
    die "$what is missing\n" if !defined($value);
    $value =~ m/\A($pattern)\z/ or die "$what '$value' is not acceptable\n";
    return $1;
}

sub nodename {
    return untaint((POSIX::uname())[1], qr/[a-z][a-z0-9-]*/, 'node name');
}

sub render_bytes {
    my ($bytes) = @_;
    my @units = qw(B KiB MiB GiB TiB);
    while (@units > 1 && $bytes >= 1024) {
        $bytes /= 1024;
        shift @units;
    }
    return sprintf($units[0] eq 'B' ? '%d %s' : '%.1f %s', $bytes, $units[0]);
}

sub read_file {
    my ($path) = @_;
    open(my $file, '<', $path) or die "can't read '$path': $!\n";
    local $/;
    my $text = <$file>;
    return $text // '';
}

# Replaces the file as a whole, so that no reader ever sees half of it.
sub write_file {
    my ($path, $text) = @_;
    my $temporary = "$path.tmp.$$";
    open(my $file, '>', $temporary) or die "can't write '$temporary': $!\n";
    print {$file} $text or die "can't write '$temporary': $!\n";
    close($file) or die "can't write '$temporary': $!\n";
    rename($temporary, $path) or die "can't rename '$temporary': $!\n";
    return;
}

# Runs the code, and dies with "got timeout\n" where it takes longer.
sub run_with_timeout {
    my ($seconds, $code) = @_;
    my $result;
    my $completed = eval {
        local $SIG{ALRM} = sub { die "got timeout\n" };
        Time::HiRes::alarm($seconds);
        my $ended = eval { $result = $code->(); 1 };
        my $error = $@;
        Time::HiRes::alarm(0);
        die $error if !$ended;
        1;
    };
    my $error = $@;
    Time::HiRes::alarm(0);
    die $error if !$completed;
    return $result;
}

# Runs the code while holding an exclusive lock on the file.
sub lock_file {
    my ($path, $seconds, $code) = @_;
    my ($folder) = $path =~ m!\A(.*)/!;
    File::Path::make_path($folder);
    open(my $lock, '>>', $path) or die "can't open lock file '$path': $!\n";
    my $locked = eval {
        run_with_timeout($seconds, sub { flock($lock, LOCK_EX) or die "$!\n" });
        1;
    };
    die "can't lock file '$path' - $@" if !$locked;
    return $code->();
}

# Starts a command with pipes for its input and output; the parent's ends are returned.
sub spawn {
    my ($command) = @_;
    pipe(my $input_read, my $input_write) or die "pipe failed: $!\n";
    pipe(my $output_read, my $output_write) or die "pipe failed: $!\n";
    my $pid = fork() // die "fork failed: $!\n";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM QUIT HUP PIPE ALRM);
        %ENV = (PATH => $SAFE_PATH, LC_ALL => 'C');
        POSIX::dup2(fileno($input_read), 0);
        POSIX::dup2(fileno($output_write), 1);
        no warnings 'exec';
        exec({ $command->[0] } @$command) or POSIX::_exit(127);
    }
    close($input_read);
    close($output_write);
    $input_write->autoflush(1);
    return ($pid, $output_read, $input_write);
}

# False where what is written to the handle would reach nobody any more.
sub has_listener {
    my ($handle) = @_;
    my $poll = IO::Poll->new();
    $poll->mask($handle => IO::Poll::POLLOUT());
    $poll->poll(0);
    return !($poll->events($handle) & (IO::Poll::POLLERR() | IO::Poll::POLLHUP()));
}

# Ends a child that should be ending by itself: waits, then TERM, then KILL. Its exit status.
sub reap {
    my ($pid, $seconds) = @_;
    my $deadline = Time::HiRes::time() + $seconds;
    for my $signal (undef, 'TERM', 'KILL') {
        kill($signal, $pid) if $signal;
        while (Time::HiRes::time() < $deadline || ($signal // '') eq 'KILL') {
            return $? if waitpid($pid, POSIX::WNOHANG()) == $pid;
            Time::HiRes::usleep(10_000);
        }
        $deadline = Time::HiRes::time() + 5;
    }
    return;
}

# Runs a command to its end, with a callback for each line of its output. An exception on the way
# (a signal handler, say) ends the command too.
sub run_command {
    my ($command, %options) = @_;
    my ($pid, $output, $input) = spawn($command);
    close($input);
    my $read = eval {
        while (defined(my $line = <$output>)) {
            chomp $line;
            $options{outfunc}->($line) if $options{outfunc};
        }
        1;
    };
    my $error = $@;
    if (!$read) {
        kill('TERM', $pid);
        reap($pid, 5);
        die $error;
    }
    waitpid($pid, 0);
    my $text = join(' ', @$command);
    die "command '$text' was ended by signal " . ($? & 127) . "\n" if $? & 127;
    die "command '$text' failed with exit code " . ($? >> 8) . "\n" if $?;
    return;
}

1;
