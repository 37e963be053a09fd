# However a test ends, its nodes end with it, and so does everything on them.
use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/lib", "$FindBin::Bin/stack/lib";
use SwitchoverTest::Cluster;

if (my $reason = SwitchoverTest::Cluster::unavailable()) {
    plan skip_all => $reason;
}

# Runs a script that makes a cluster with one VM, says where, and ends as it is told to. The process
# id namespaces of its nodes, and its folder, are returned when it has ended.
sub ended_by {
    my ($ending, $signal) = @_;
    my $script = 'use SwitchoverTest::Cluster; $| = 1;'
        . 'my $cluster = SwitchoverTest::Cluster->new(); $cluster->start_vm(100);'
        . 'print join(" ", $cluster->folder(), map { $_->{pid} } values %{ $cluster->{nodes} }), "\n";'
        . $ending;
    my $pid = open(my $output, '-|', $^X, (map { ('-I', $_) } @INC[0, 1]), '-e', $script)
        or die "can't run the script: $!\n";
    my ($folder, @nodes) = split ' ', scalar(<$output>) // '';
    die "the script made no cluster\n" if @nodes != 2;
    my @namespaces = map { readlink("/proc/$_/ns/pid") } @nodes;
    kill($signal, $pid) if $signal;
    close($output);
    return ($folder, @namespaces);
}

# The processes that are still in one of these namespaces, after they had time to end.
sub survivors {
    my (@namespaces) = @_;
    my @processes;
    for (1 .. 300) {
        @processes = grep {
            my $namespace = readlink("$_/ns/pid") // '';
            grep { $_ eq $namespace } @namespaces;
        } glob('/proc/[0-9]*');
        last if !@processes;
        select(undef, undef, undef, 0.1);
    }
    return @processes;
}

my @ENDINGS = (
    ['a test that ends', 'exit(0)'],
    ['a test that dies', 'open(STDERR, ">", "/dev/null"); die "on purpose\n"'],
    ['a test that is interrupted', 'sleep(60)', 'INT'],
    ['a test that is killed', 'sleep(60)', 'KILL'],
);

for my $case (@ENDINGS) {
    my ($name, $ending, $signal) = @$case;
    my ($folder, @namespaces) = ended_by($ending, $signal);
    is_deeply([survivors(@namespaces)], [], "$name leaves no process");
    if (($signal // '') eq 'KILL') {
        File::Path::remove_tree($folder);
    } else {
        ok(!-e $folder, "$name leaves no file");
    }
}

done_testing();
