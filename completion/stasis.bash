# bash completion for stasis

_stasis() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "run doctor list topology kernel lab --help --version" -- "$cur")
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
		-k | --kernel | -i | --initrd | --include | --report | --disk)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
			;;
		--modules)
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			return
			;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "--kernel --initrd --include --modules --topology --cpus
			--memory --numa-node --numa-distance --append --disk --hugepages --pin --timeout --freeze-at --name --report --lab --no-lab --dry-run --verbose
			--quiet --help --" -- "$cur")
		;;
	kernel) mapfile -t COMPREPLY < <(compgen -W "get list" -- "$cur") ;;
	topology) mapfile -t COMPREPLY < <(compgen -W "--memory --numa-node --numa-distance --acpi --json --help" -- "$cur") ;;
	lab) mapfile -t COMPREPLY < <(compgen -W "start stop status" -- "$cur") ;;
	doctor | list) mapfile -t COMPREPLY < <(compgen -W "--json" -- "$cur") ;;
	esac
}
complete -F _stasis stasis
