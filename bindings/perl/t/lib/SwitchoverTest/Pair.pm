# A source and a target QEMU with nothing between them: the floor that every stack is compared with.
package SwitchoverTest::Pair;

use strict;
use warnings;

use SwitchoverTest::Guest;
use SwitchoverTest::QEMU;
use SwitchoverTest::Ticks;

# Starts both in the folder; the guest ticks in the source when this returns. Options: version of
# QEMU, memory in MiB, those of the guest, and disk_bytes for one local disk: the node `disk` on
# both sides.
#
# QEMU's end of a serial line holds some 2,000 bytes that nobody reads. Then the guest waits, and
# what it wrote last is sent by the source and by the target. So a test that does not serve the loop
# for seconds needs a guest that ticks slowly.
sub start {
    my ($class, $loop, $folder, %options) = @_;
    my $image = "$folder/guest.img";
    SwitchoverTest::Guest::write_boot_image($image, %options);
    my $self = bless { loop => $loop, folder => $folder }, $class;
    for my $side (qw(source target)) {
        $self->{ticks}{$side} = SwitchoverTest::Ticks->new($loop, "$folder/$side.serial");
        my @more = $side eq 'target' ? ('-incoming', "unix:$folder/ram") : ();
        push @more, _disk_arguments("$folder/$side.raw", $options{disk_bytes})
            if $options{disk_bytes};
        $self->{$side} = SwitchoverTest::QEMU->start(
            version => $options{version}, folder => $folder, name => $side,
            arguments => [
                '-m', $options{memory} // 128,
                '-drive', "if=floppy,format=raw,readonly=on,file=$image",
                '-chardev', "socket,id=serial0,path=$folder/$side.serial",
                '-serial', 'chardev:serial0', @more,
            ]);
    }
    $loop->run_until(60, 'the target', sub { SwitchoverTest::QEMU::listens("$folder/ram") });
    $self->{ticks}{source}->wait_for(20);
    return $self;
}

sub _disk_arguments {
    my ($path, $bytes) = @_;
    open(my $file, '>', $path) or die "can't create '$path': $!\n";
    truncate($file, $bytes) or die "can't size '$path': $!\n";
    return (
        '-device', 'virtio-scsi-pci,id=scsi',
        '-blockdev', "driver=raw,node-name=disk,file.driver=file,file.filename=$path",
        '-device', 'scsi-hd,bus=scsi.0,drive=disk',
    );
}

sub source { return $_[0]->{source} }
sub target { return $_[0]->{target} }
sub ticks { return $_[0]->{ticks}{ $_[1] } }

# Sends `migrate`; the target starts by itself, as nobody holds it back. The guest's gap in ms.
sub migrate {
    my ($self) = @_;
    $self->{source}->qmp('migrate', uri => "unix:$self->{folder}/ram");
    $self->{ticks}{target}->wait_for(20);
    return $self->{ticks}{source}->gap_milliseconds($self->{ticks}{target});
}

sub stop {
    my ($self) = @_;
    $self->{$_}->stop() for qw(target source);
    $_->close_all() for values %{ $self->{ticks} };
    return;
}

1;
