# bash completion for stasis

_stasis() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "run doctor list status stats top profile compare freeze thaw dump vmcore snapshot restore exec locks report bench topology kernel lab --help --version" -- "$cur")
		return
	fi
	case ${COMP_WORDS[1]} in
	run)
		# Behind "--" stands a command with its own words.
		for ((i = 2; i < COMP_CWORD; i++)); do
			if [ "${COMP_WORDS[i]}" = -- ]; then
				_command_offset $((i + 1)) 2>/dev/null
				return
			fi
		done
		case $prev in
		-k | --kernel | -i | --initrd | --include | --report | --profile-out | --disk | --qmp)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
			;;
		--net)
			mapfile -t COMPREPLY < <(compgen -W "user tap=" -- "$cur")
			return
			;;
		--modules | --record)
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			return
			;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "--kernel --arch --initrd --include --modules --topology --cpus
			--memory --numa-node --numa-distance --append --disk --net --hugepages --pin --perf --perf=relaxed --cpus-budget --wait --timeout --freeze-at --watch --watch-scx --on-hit --monitor --monitor-out --on-stall --profile --profile-out --record --dump --vmcore --name --report --qmp --lab --no-lab --dry-run --verbose
			--quiet --help --" -- "$cur")
		;;
	kernel) mapfile -t COMPREPLY < <(compgen -W "get build list" -- "$cur") ;;
	topology) mapfile -t COMPREPLY < <(compgen -W "--memory --numa-node --numa-distance --acpi --fdt --json --help" -- "$cur") ;;
	lab) mapfile -t COMPREPLY < <(compgen -W "start stop status --arch --disk" -- "$cur") ;;
	exec)
		[ "$COMP_CWORD" -gt 3 ] || mapfile -t COMPREPLY < <(compgen -W "-i -t --help
			$(stasis list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")
		;;
	profile)
		mapfile -t COMPREPLY < <(compgen -W "--seconds --hz --output --json --help
			$(stasis list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")
		;;
	compare) mapfile -t COMPREPLY < <(compgen -d -- "$cur"; compgen -f -X '!*.json' -- "$cur"; compgen -W "--least --json --help" -- "$cur") ;;
	top)
		mapfile -t COMPREPLY < <(compgen -W "--count --delay --help
			$(stasis list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")
		;;
	status | stats | freeze | thaw | dump | vmcore)
		mapfile -t COMPREPLY < <(compgen -W "--help $([[ ${COMP_WORDS[1]} == stat* ]] && echo --json)
			$(stasis list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")
		;;
	snapshot)
		if [ "$COMP_CWORD" -eq 2 ]; then
			mapfile -t COMPREPLY < <(compgen -W "--help $(stasis list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -d -- "$cur"; [ "$prev" = --diff-of ] ||
				compgen -W "--keep-running --diff-of --lz4" -- "$cur")
		fi
		;;
	restore)
		case $prev in
		restore) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		--report | --qmp) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "--count --disk --name --prefault --qmp --report --timeout --verbose --quiet --help" -- "$cur") ;;
		esac
		;;
	report)
		case $prev in
		-o | --output) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -f -- "$cur"; compgen -W "--output --help" -- "$cur") ;;
		esac
		;;
	bench)
		case $prev in
		--json | --plot | --compare | --stasis) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		--work) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "--list --rounds --passes --only --cpus --wait --json --plot --compare --work --stasis --help
			$(stasis bench --list 2>/dev/null | awk '{ print $1 }')" -- "$cur") ;;
		esac
		;;
	locks) mapfile -t COMPREPLY < <(compgen -W "--watch --json" -- "$cur") ;;
	doctor | list) mapfile -t COMPREPLY < <(compgen -W "--json" -- "$cur") ;;
	esac
}
complete -F _stasis stasis
