# Virtual machines of this node: start, stop, resume, volumes, bridge forwarding entries.
package PVE::QemuServer;

use strict;
use warnings;

use File::Path ();
use JSON ();
use POSIX ();
use Time::HiRes ();

use PVE::QemuConfig;
use PVE::QemuServer::Monitor qw(mon_cmd);
use PVE::Tools qw(has_listener lock_file nodename read_file run_command untaint write_file);

our $RUN_FOLDER = '/var/run/qemu-server';

my %STORAGE_FOLDER = (
    local => '/run/stack/images',
    shared => '/run/stack/shared',
);
# The node's bridge table, as far as the stack writes to it: one hardware address a line.
my $FORWARDING_TABLE = '/run/stack/forwarding';
my $STOP_TIMEOUT_SECONDS = 30;

# Everything that is not named here is switched off before a migration.
my %WANTED_CAPABILITY = map { $_ => 1 } qw(auto-converge xbzrle dirty-bitmaps);

# ---- State

sub pid_of {
    my ($vmid) = @_;
    my $path = "$RUN_FOLDER/$vmid.pid";
    return if !-s $path;
    my ($pid) = read_file($path) =~ /\A([0-9]+)\s*\z/ or return;
    return kill(0, $pid) ? $pid : undef;
}

sub check_running {
    my ($vmid) = @_;
    return pid_of($vmid);
}

# Machines from 10.0 on name their drives as block nodes.
sub drives_are_nodes {
    my ($config) = @_;
    return ($config->{machine} // '') =~ /-([0-9]+)\.[0-9]+\z/ && $1 >= 10 ? 1 : 0;
}

# ---- Volumes

# The path of a volume such as "local:100/vm-100-disk-0.raw" on the node that asks.
sub volume_path {
    my ($volume) = @_;
    $volume =~ m!\A(local|shared):([0-9]+/[a-z0-9][a-z0-9.-]*)\z! or die "no such volume '$volume'\n";
    return "$STORAGE_FOLDER{$1}/$2";
}

sub volume_size { return -s volume_path($_[0]) }

sub is_local_volume { return $_[0] =~ /\Alocal:/ ? 1 : 0 }

# The VM's drives: { scsi0 => VOLUME, … }.
sub drives {
    my ($config) = @_;
    return { map { $_ => $config->{$_} } grep { /\Ascsi[0-9]+\z/ } keys %$config };
}

sub allocate_volume {
    my ($vmid, $bytes) = @_;
    for my $number (0 .. 99) {
        my $volume = "local:$vmid/vm-$vmid-disk-$number.raw";
        my $path = volume_path($volume);
        next if -e $path;
        File::Path::make_path($path =~ m!\A(.*)/!);
        open(my $file, '>', $path) or die "can't create '$path': $!\n";
        truncate($file, $bytes) or die "can't size '$path': $!\n";
        return $volume;
    }
    die "no free volume name for VM $vmid\n";
}

sub free_volume {
    my ($volume) = @_;
    my $path = volume_path($volume);
    unlink($path) or die "can't remove '$path': $!\n";
    return;
}

# ---- Bridge forwarding entries

sub _edit_forwarding {
    my ($config, $present) = @_;
    my ($address) = ($config->{net0} // '') =~ /\A[a-z0-9]+=([0-9A-Fa-f:]{17}),/ or return;
    lock_file("$FORWARDING_TABLE.lock", 5, sub {
        my $table = -e $FORWARDING_TABLE ? read_file($FORWARDING_TABLE) : '';
        my %entries = map { $_ => 1 } split /\n/, $table;
        $present ? ($entries{$address} = 1) : delete $entries{$address};
        write_file($FORWARDING_TABLE, join('', map { "$_\n" } sort keys %entries));
    });
    return;
}

# Also called by name from outside, for a guest that somebody else let run.
sub add_nets_bridge_fdb {
    my ($config, $vmid) = @_;
    return _edit_forwarding($config, 1);
}

sub remove_forwarding_entries { return _edit_forwarding($_[0], 0) }

# ---- Life of a VM

sub _drive_arguments {
    my ($config) = @_;
    my $drives = drives($config);
    return if !%$drives;
    my @arguments = ('-device', 'virtio-scsi-pci,id=scsihw0');
    for my $drive (sort keys %$drives) {
        my $path = volume_path($drives->{$drive});
        my ($unit) = $drive =~ /([0-9]+)\z/;
        if (drives_are_nodes($config)) {
            push @arguments, '-blockdev', "driver=raw,node-name=drive-$drive,"
                . "file.driver=file,file.filename=$path";
        } else {
            push @arguments, '-drive', "if=none,id=drive-$drive,format=raw,file=$path";
        }
        push @arguments, '-device', "scsi-hd,bus=scsihw0.0,scsi-id=$unit,drive=drive-$drive,id=$drive";
    }
    return @arguments;
}

# The command line of a VM; incoming names the address where its state will arrive.
sub config_to_command {
    my ($vmid, $config, $incoming) = @_;
    my @command = (
        untaint($config->{emulator} // '/usr/bin/qemu-system-x86_64', qr!/[A-Za-z0-9_./-]+!, 'emulator'),
        '-name', "vm-$vmid",
        '-machine', ($config->{machine} // 'pc') . ',accel=tcg',
        '-m', $config->{memory} // 128,
        qw(-nodefaults -no-user-config -display none -vga none -boot a),
        '-chardev', "socket,id=qmp,path=$RUN_FOLDER/$vmid.qmp,server=on,wait=off",
        '-mon', 'chardev=qmp,mode=control',
        '-pidfile', "$RUN_FOLDER/$vmid.pid",
        '-daemonize',
    );
    push @command, '-L', $config->{firmware} if $config->{firmware};
    push @command, '-drive', "if=floppy,format=raw,readonly=on,file=$config->{boot}" if $config->{boot};
    push @command, '-chardev', "socket,id=serial0,path=$config->{serial0}", '-serial', 'chardev:serial0'
        if $config->{serial0};
    if (my ($model, $address) = ($config->{net0} // '') =~ /\A([a-z0-9]+)=([0-9A-Fa-f:]{17}),/) {
        push @command, '-netdev', 'user,id=net0,restrict=on',
            '-device', "$model,netdev=net0,mac=$address,romfile=";
    }
    push @command, _drive_arguments($config);
    push @command, '-S', '-incoming', $incoming if $incoming;
    return \@command;
}

# Starts a VM. For an incoming migration (`mirror` => { DRIVE => BYTES } lists the local disks) the
# configuration still stands in the other node's folder; what the source must know is returned.
sub vm_start {
    my ($vmid, %options) = @_;
    return PVE::QemuConfig->lock_config($vmid, sub { _start($vmid, %options) });
}

sub _start {
    my ($vmid, %options) = @_;
    my $from = $options{migrated_from};
    # The source may have given up, and have had this VM stopped, before its command got here.
    die "whoever wanted VM $vmid has gone\n" if $from && !has_listener(\*STDOUT);
    my $config = PVE::QemuConfig->load_config($vmid, $from);
    PVE::QemuConfig->check_lock($config) if !$from;
    die "VM $vmid already running\n" if check_running($vmid);
    File::Path::make_path($RUN_FOLDER);
    my %answer;
    for my $drive (sort keys %{ $options{mirror} // {} }) {
        $config->{$drive} = $answer{volumes}{$drive} = allocate_volume($vmid, $options{mirror}{$drive});
    }
    my $started = eval {
        my $ram = "$RUN_FOLDER/$vmid.migrate";
        unlink($ram) if $from;
        run_command(config_to_command($vmid, $config, $from ? "unix:$ram" : undef));
        add_nets_bridge_fdb($config, $vmid) if !$from;
        return 1 if !$from;
        $answer{ram} = "unix:$ram";
        set_migration_caps($vmid);
        $answer{nbd} = _export_drives($vmid, sort keys %{ $answer{volumes} }) if $answer{volumes};
        1;
    };
    if (!$started) {
        my $error = $@;
        _stop($vmid) if $from && check_running($vmid);
        eval { free_volume($_) } for values %{ $answer{volumes} // {} };
        die "start failed: $error";
    }
    return \%answer;
}

sub _export_drives {
    my ($vmid, @drives) = @_;
    my $path = "$RUN_FOLDER/${vmid}_nbd.migrate";
    unlink($path);
    mon_cmd($vmid, 'nbd-server-start', addr => { type => 'unix', data => { path => $path } });
    my %addresses;
    for my $drive (@drives) {
        mon_cmd($vmid, 'nbd-server-add', device => "drive-$drive", writable => JSON::true);
        $addresses{$drive} = "nbd:unix:$path:exportname=drive-$drive";
    }
    return \%addresses;
}

sub nbd_stop {
    my ($vmid) = @_;
    mon_cmd($vmid, 'nbd-server-stop', timeout => 25);
    return;
}

# Ends the QEMU process at once, as the guest does not live in it any more (or must not), and
# removes what even one that is dead already has left. Waits for a start that is under way.
sub vm_stop {
    my ($vmid) = @_;
    return PVE::QemuConfig->lock_config($vmid, sub { _stop($vmid) });
}

sub _stop {
    my ($vmid) = @_;
    my $pid = check_running($vmid);
    eval { mon_cmd($vmid, 'quit') } if $pid;
    my $deadline = Time::HiRes::time() + $STOP_TIMEOUT_SECONDS;
    while ($pid && kill(0, $pid)) {
        if (Time::HiRes::time() >= $deadline) {
            kill('KILL', $pid);
            $deadline += $STOP_TIMEOUT_SECONDS;
        }
        Time::HiRes::usleep(20_000);
    }
    unlink("$RUN_FOLDER/$vmid.pid", "$RUN_FOLDER/$vmid.qmp",
        "$RUN_FOLDER/$vmid.migrate", "$RUN_FOLDER/${vmid}_nbd.migrate");
    return;
}

# Lets an arrived guest run. A guest that runs already is left alone, and so is the bridge table.
sub vm_resume {
    my ($vmid) = @_;
    PVE::QemuConfig->lock_config($vmid, sub {
        my $status = mon_cmd($vmid, 'query-status')->{status};
        return if $status eq 'running';
        my $config = PVE::QemuConfig->load_config($vmid);
        add_nets_bridge_fdb($config, $vmid);
        mon_cmd($vmid, 'cont');
    });
    return;
}

# Lets a source run again whose migration had completed.
sub resume_postmigrate {
    my ($vmid) = @_;
    mon_cmd($vmid, 'cont') if mon_cmd($vmid, 'query-status')->{status} eq 'postmigrate';
    return;
}

# ---- Migration settings

# Writes every capability that this QEMU lists.
sub set_migration_caps {
    my ($vmid) = @_;
    my $listed = mon_cmd($vmid, 'query-migrate-capabilities');
    my @capabilities = map {
        { capability => $_->{capability},
          state => $WANTED_CAPABILITY{ $_->{capability} } ? JSON::true : JSON::false }
    } @$listed;
    mon_cmd($vmid, 'migrate-set-capabilities', capabilities => \@capabilities);
    return;
}

1;
