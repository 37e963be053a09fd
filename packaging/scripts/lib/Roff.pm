# Plain text as the language of manual pages.
package Roff;

use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = qw(escape text);

# The first line of a page. No date: the same sources make the same page.
sub head {
    my ($name, $section, $version) = @_;
    return sprintf
        ".TH %s %s \"\" \"libswitchover %s\" \"libswitchover\"\n.nh\n.ad l\n", escape($name), $section, $version;
}

# Text that means nothing to roff.
sub escape {
    my ($text) = @_;
    $text =~ s/\\/\\e/g;
    $text =~ s/-/\\-/g;
    $text =~ s/^([.'])/\\&$1/gm;
    $text =~ s/'/\\(aq/g;
    return $text;
}

# Paragraphs, and lists whose items begin with a hyphen; names of functions and constants are bold.
sub text {
    my ($text) = @_;
    my $page = '';
    for my $paragraph (split /\n\s*\n/, $text) {
        my @items = split /^ *- /m, $paragraph;
        my $first = shift @items;
        $page .= ".PP\n" . filled($first) if $first =~ /\S/;
        $page .= ".IP \\(bu 2\n" . filled($_) for @items;
    }
    $page =~ s/\A\.PP\n//;
    return $page;
}

sub filled {
    my ($text) = @_;
    $text =~ s/\s+/ /g;
    $text =~ s/\A | \z//g;
    $text = escape($text);
    $text =~ s/\b(swo_\w+(?:\(\))?|SWO_\w+)/\\fB$1\\fP/g;
    $text =~ s/(.{60,95}?) /$1\n/g;
    $text =~ s/^([.'])/\\&$1/gm;
    return "$text\n";
}

1;
