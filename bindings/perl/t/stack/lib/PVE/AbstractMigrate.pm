# The phases of every migration and what surrounds them: log, signals, the order of cleanups.
#
# A class for one kind of guest implements prepare, phase1, phase1_cleanup, phase2, phase2_cleanup,
# phase3_cleanup and final_cleanup.
package PVE::AbstractMigrate;

use strict;
use warnings;

use POSIX ();

use PVE::Tools qw(run_command);

my @INTERRUPTING_SIGNALS = qw(INT TERM QUIT HUP PIPE);

# Moves the guest to the node. Dies where anything went wrong; the log has said what by then.
sub migrate {
    my ($class, $node, $address, $vmid, $options) = @_;
    my $self = bless {
        node => $node, nodeip => $address, vmid => $vmid, opts => $options // {}, errors => 0,
        rem_ssh => scalar(_remote_shell($node, $address, $options // {})),
    }, $class;
    my $started = time();
    my $completed = eval {
        local @SIG{@INTERRUPTING_SIGNALS} = (sub { die "interrupted by signal\n" }) x 5;
        $self->_transfer();
        local @SIG{@INTERRUPTING_SIGNALS} = (sub { $self->{delayed_interrupt} = 1 }) x 5;
        $self->_finish();
        1;
    };
    my $error = $@;
    if (!$completed) {
        chomp $error;
        $self->log('err', "migration given up: $error");
        die "migration aborted\n";
    }
    my $seconds = time() - $started;
    die "migration ended with problems after $seconds s\n" if $self->{errors};
    $self->log('info', "migration done after $seconds s");
    return;
}

# Up to here everything can be undone.
sub _transfer {
    my ($self) = @_;
    my $vmid = $self->{vmid};
    $self->{running} = $self->prepare($vmid);
    $self->_guarded(phase1 => 'phase1_cleanup');
    $self->_guarded(phase2 => 'phase2_cleanup') if $self->{running};
    return;
}

sub _guarded {
    my ($self, $phase, $cleanup) = @_;
    return if eval { $self->$phase($self->{vmid}); 1 };
    my $error = $@;
    chomp(my $text = $error);
    $self->log('err', "$phase failed: $text");
    local @SIG{@INTERRUPTING_SIGNALS} = ('IGNORE') x 5;
    eval { $self->$cleanup($self->{vmid}, $error) };
    $self->log('err', "$cleanup failed: $@") if $@;
    die $error;
}

# The last phase only goes forward; its errors are logged and counted.
sub _finish {
    my ($self) = @_;
    my $vmid = $self->{vmid};
    for my $phase (qw(phase3_cleanup final_cleanup)) {
        next if eval { $self->$phase($vmid); 1 };
        $self->problem("$phase failed: $@");
        last;
    }
    $self->problem('a signal arrived while the migration could not be interrupted')
        if $self->{delayed_interrupt};
    return;
}

# The command that runs something on the other node; another cluster has none.
sub _remote_shell {
    my ($node, $address, $options) = @_;
    return if ($options->{migration_type} // 'secure') eq 'websocket';
    return [
        '/usr/bin/ssh', '-F', '/run/stack/ssh/config', '-o', 'BatchMode=yes',
        '-o', "HostKeyAlias=$node", "root\@$address",
    ];
}

sub log {
    my ($self, $level, $text) = @_;
    chomp $text;
    my $mark = { info => '', warn => 'WARN: ', err => 'ERROR: ' }->{$level};
    my $time = POSIX::strftime('%Y-%m-%d %H:%M:%S', localtime);
    print STDOUT "$time $mark$text\n";
    STDOUT->flush();
    return;
}

# An error that is no reason to stop here.
sub problem {
    my ($self, $text) = @_;
    $self->log('err', $text);
    $self->{errors} = 1;
    return;
}

# Runs a command on the other node; its output goes to the callback, or to the log.
sub remote {
    my ($self, $command, $outfunc) = @_;
    $outfunc //= sub { $self->log('info', "[$self->{node}] $_[0]") };
    run_command([@{ $self->{rem_ssh} }, @$command], outfunc => $outfunc);
    return;
}

1;
