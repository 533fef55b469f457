package practice

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// newKubectl has get, in the forms that people type, and what a restore prints.
func newKubectl() *cobra.Command {
	c := &cobra.Command{Use: "kubectl", Short: "asks the practice API server (get, replace of ConfigMaps, version)"}
	kubeconfig := c.PersistentFlags().String("kubeconfig", "", "path of the kubeconfig")
	var namespace string
	c.PersistentFlags().StringVarP(&namespace, "namespace", "n", "default", "of this namespace")
	client := func() (*apiClient, error) {
		path := cmp.Or(*kubeconfig, os.Getenv("KUBECONFIG"))
		if path == "" {
			path = Root(os.Getenv(rootEnv)).Kubeconfig()
		}
		return newAPIClient(path)
	}
	var all bool
	var output, selector string
	get := &cobra.Command{
		Use: "get TYPE[,TYPE...] [NAME]", Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := client()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 2 {
				name = args[1]
			}
			kinds := strings.Split(args[0], ",")
			if t, n, ok := strings.Cut(args[0], "/"); ok && name == "" {
				kinds, name = []string{t}, n
			}
			for i, t := range kinds {
				if i > 0 && output == "" {
					fmt.Fprintln(c.OutOrStdout())
				}
				if err := kubectlGet(c.Context(), api, c.OutOrStdout(), t, name, namespace, output, selector, all, len(kinds) > 1); err != nil {
					return err
				}
			}
			return nil
		},
	}
	get.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of all namespaces")
	get.Flags().StringVarP(&output, "output", "o", "", "json, yaml, name or wide")
	get.Flags().StringVarP(&selector, "selector", "l", "", "labels")
	version := &cobra.Command{Use: "version", RunE: func(c *cobra.Command, _ []string) error {
		api, err := client()
		if err != nil {
			return err
		}
		var v struct{ GitVersion string }
		if err := api.get(c.Context(), "/version", "", &v); err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), "Server Version:", v.GitVersion)
		return nil
	}}
	var file string
	replace := &cobra.Command{Use: "replace -f FILE", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		api, err := client()
		if err != nil {
			return err
		}
		return kubectlReplace(c.Context(), api, c.InOrStdin(), c.OutOrStdout(), file, namespace)
	}}
	replace.Flags().StringVarP(&file, "filename", "f", "", "file with the object, - for the standard input")
	_ = replace.MarkFlagRequired("filename")
	c.AddCommand(get, replace, version)
	return c
}

// findResource asks discovery for a name in any of its forms.
func findResource(ctx context.Context, api *apiClient, name string) (metav1.APIResource, string, error) {
	var groups metav1.APIGroupList
	if err := api.get(ctx, "/apis", "", &groups); err != nil {
		return metav1.APIResource{}, "", err
	}
	paths := []string{"/api/v1"}
	for _, g := range groups.Groups {
		paths = append(paths, "/apis/"+g.PreferredVersion.GroupVersion)
	}
	name, group, _ := strings.Cut(strings.ToLower(name), ".")
	for _, path := range paths {
		if group != "" && !strings.HasPrefix(path, "/apis/"+group) {
			continue
		}
		var list metav1.APIResourceList
		if err := api.get(ctx, path, "", &list); err != nil {
			return metav1.APIResource{}, "", err
		}
		for _, r := range list.APIResources {
			if r.Name == name || r.SingularName == name || slices.Contains(r.ShortNames, name) {
				return r, path, nil
			}
		}
	}
	return metav1.APIResource{}, "", fmt.Errorf("the server doesn't have a resource type %q", name)
}

func kubectlGet(ctx context.Context, api *apiClient, out io.Writer, kind, name, namespace, output, selector string, all, several bool) error {
	r, path, err := findResource(ctx, api, kind)
	if err != nil {
		return err
	}
	if r.Namespaced && !all {
		path += "/namespaces/" + namespace
	}
	path += "/" + r.Name
	if name != "" {
		path += "/" + name
	}
	if selector != "" {
		path += "?labelSelector=" + selector
	}
	switch output {
	case "json", "yaml", "name":
		var o map[string]any
		if err := api.get(ctx, path, "", &o); err != nil {
			return err
		}
		return printObject(out, o, r, output)
	}
	var t metav1.Table
	if err := api.get(ctx, path, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", &t); err != nil {
		return err
	}
	if len(t.Rows) == 0 {
		fmt.Fprintln(out, "No resources found")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	head := []string{}
	if r.Namespaced && all {
		head = append(head, "NAMESPACE")
	}
	for _, d := range t.ColumnDefinitions {
		head = append(head, strings.ToUpper(d.Name))
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range t.Rows {
		var line []string
		var o metav1.PartialObjectMetadata
		_ = json.Unmarshal(row.Object.Raw, &o)
		if r.Namespaced && all {
			line = append(line, o.Namespace)
		}
		for i, c := range row.Cells {
			cell := fmt.Sprint(c)
			if i == 0 && several {
				cell = r.SingularName + "/" + cell
			}
			line = append(line, cell)
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

func kubectlReplace(ctx context.Context, api *apiClient, in io.Reader, out io.Writer, file, namespace string) error {
	if file != "-" {
		f, err := os.Open(filepath.Clean(file))
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var o struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
	}
	if err := yaml.Unmarshal(raw, &o); err != nil {
		return err
	}
	r, path, err := findResource(ctx, api, o.Kind)
	if err != nil {
		return err
	}
	if raw, err = yaml.YAMLToJSON(raw); err != nil {
		return err
	}
	if r.Namespaced {
		path += "/namespaces/" + cmp.Or(o.Metadata.Namespace, namespace)
	}
	if err := api.put(ctx, path+"/"+r.Name+"/"+o.Metadata.Name, raw); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s replaced\n", r.SingularName, o.Metadata.Name)
	return nil
}

func printObject(out io.Writer, o map[string]any, r metav1.APIResource, output string) error {
	switch output {
	case "name":
		items, list := o["items"].([]any)
		if !list {
			items = []any{o}
		}
		for _, i := range items {
			m, _ := i.(map[string]any)
			fmt.Fprintf(out, "%s/%s\n", r.SingularName, field(m, "metadata", "name"))
		}
		return nil
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "    ")
		return enc.Encode(o)
	}
	raw, err := yaml.Marshal(o)
	if err == nil {
		_, err = out.Write(raw)
	}
	return err
}
